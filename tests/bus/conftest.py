from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byokd.adapters.sql import SqlStore, open_inline
from byokd.demo.broker import iotcore_broker
from byokd.runtime.clock import UuidIds
from parts.mosquitto import Mosquitto, mosquitto
from store.builders import auditor

BOTH = [
    pytest.param("iotcore", marks=pytest.mark.real("iotcore")),
    pytest.param("mosquitto", marks=pytest.mark.real("mosquitto")),
]


@pytest.fixture(params=BOTH)
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of either broker."""
    if request.param == "iotcore":
        async with iotcore_broker() as address:
            yield address
    else:
        async with mosquitto(tmp_path / "mosquitto") as running:
            yield running.address


@pytest.fixture
async def killable(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    opened = open_inline(UuidIds(), auditor())
    try:
        yield opened
    finally:
        await opened.close()
