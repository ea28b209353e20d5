from collections.abc import AsyncIterator, Iterator

import pytest

from byokd.demo.stage import Stage, set_stage
from parts.forking import Forker, forked

STARTED_AS_ALWAYS = {"test_process", "test_deaths_of_the_bus"}
"""Whose subject is the process itself, from its start to its end; and where a start as long as it is lets a broker that
saves after each message catch up, so that what is left at the end comes within the time."""


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    made.end()


@pytest.fixture(autouse=True)
def _started_by_forking(request: pytest.FixtureRequest) -> Iterator[None]:
    """Most of what these tests take would be the loading of byokd, again and again."""
    if request.path.stem in STARTED_AS_ALWAYS:
        yield
        return
    with forked(request.getfixturevalue("forker")):
        yield


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A broker, the emulator and the daemon, each a process of its own; nothing registered yet."""
    async with set_stage(None) as made:
        yield made
