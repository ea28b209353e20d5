"""The memory of a process that holds keys stays its own."""

import ctypes
import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""From linux/prctl.h."""


def keep_memory_private() -> None:
    """Leave no core dump from now on, and let no other process of the same user look into this one's memory.

    Root still can. The dump is refused twice: a limit alone does not hold for a dump that is piped to a program.
    """
    with suppress(OSError, ValueError):  # the unit's filter of system calls refuses it, and the unit has set it already
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the process cannot be kept from being dumped")
