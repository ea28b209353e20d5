"""What a test must not leave behind in its own process."""

import asyncio
from collections import Counter
from pathlib import Path

TURNS = 5
"""Turns of the loop that cancelled tasks need to end."""


def open_sockets() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


async def other_tasks() -> Counter[str]:
    """Count the tasks beside this one, by what they run."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return Counter(task.get_coro().__qualname__ for task in others)
