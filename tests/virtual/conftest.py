import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from virtual.world import World

# As beside the other tests on virtual time: whoever asks for a loop before there is one is told so.
asyncio.set_event_loop(None)

settings.register_profile("byokd", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("byokd")


@pytest.fixture(scope="session")
def service_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Throw-away keys of the service."""
    directory = tmp_path_factory.mktemp("service-keys")
    for number, kind in enumerate(("system", "storage"), start=1):
        path = directory / f"{kind}.1.key"
        path.touch(mode=0o600)
        path.write_bytes(bytes([number]) * 32)
    return directory


@pytest.fixture
def make_world(service_keys: Path) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(**how: Any) -> World:  # noqa: ANN401 - what a world takes
        worlds.append(World(service_keys, **how))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
