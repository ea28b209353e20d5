"""Runs a program that ends with the process that started it, however that ends: `bound.py PARENT PROGRAM ARGUMENT...`.

It is started as a file, without site packages, and becomes the program: the process id stays.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h. The wish outlives exec."""


def become(parent: int, command: list[str]) -> None:
    """Become the program, killed when the parent ends; being asked to end would not reach one that is held."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:  # else it has ended before it could be bound to
        os.execv(command[0], command)  # noqa: S606 - that is its purpose


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
