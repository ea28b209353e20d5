"""Is byokd, and starts the byokd that it starts by forking: `forking_byokd.py ALWAYS ARGUMENT...`.

ALWAYS names, with commas between, verbs that are started as always. It is started as a file: no program of byokd looks
where it is.
"""

import runpy
import sys

from forking import Forker, forked  # beside this file


def become(always: str, arguments: list[str]) -> None:
    """Be byokd, to its end."""
    sys.path.pop(0)
    sys.argv[1:] = arguments
    forker = Forker()
    try:
        with forked(forker, but=frozenset(always.split(","))):
            runpy.run_module("byokd", run_name="__main__", alter_sys=True)
    finally:
        forker.end()


if __name__ == "__main__":
    become(sys.argv[1], sys.argv[2:])
