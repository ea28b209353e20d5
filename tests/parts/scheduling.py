"""Which tests stay together when they run side by side, because they share something that takes long to make.

The marks of pytest-xdist would say it as well, but its release 3.8 hands them over inside node ids, and since pytest
9.2 loses them there without a word.
"""

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    ("tests/systemd/", "", "systemd"),
    ("tests/kills/", "[sqlite", "kills over SQLite"),
    ("tests/kills/", "", "the other kills"),
)
"""Where a test is, what its name holds, and with what it stays. Each group is begun before all single tests."""

LONG = ("tests/virtual/test_ten_thousand.py",)
"""Where tests are that take long and would come among the last: two processors then wait for one."""


def comes_late(nodeid: str) -> bool:
    """Tell whether a test may come after those of LONG."""
    return not nodeid.startswith(LONG)


def group(nodeid: str) -> str:
    """Give what a test stays with: a group, or itself alone."""
    return next((name for place, held, name in TOGETHER if nodeid.startswith(place) and held in nodeid), nodeid)


class GroupScheduling(LoadScopeScheduling):
    """One group to one worker, and every other test to whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
