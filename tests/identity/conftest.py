from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from identity.platform import Platform, running_platform


@pytest.fixture
async def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    async with running_platform(tmp_path, monkeypatch) as running:
        yield running
