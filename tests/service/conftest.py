from collections.abc import AsyncIterator

import pytest

from byokd.demo.stage import Stage, set_stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A broker, the emulator and the daemon, each a process of its own; nothing registered yet."""
    async with set_stage(None) as made:
        yield made
