from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from byokd.ports import ServiceKey
from virtual.world import World


@pytest.fixture(scope="session")
def service_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Throw-away keys of the service."""
    directory = tmp_path_factory.mktemp("service-keys")
    for number, kind in enumerate(ServiceKey, start=1):
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
