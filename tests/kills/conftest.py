import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from kills.site import site
from kills.worlds import Worlds


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds() -> AsyncIterator[Worlds]:
    with tempfile.TemporaryDirectory(prefix="kills-") as directory, pytest.MonkeyPatch.context() as patch:
        async with site(Path(directory)) as place, AsyncExitStack() as stack:
            for name, value in place.environment.items():
                patch.setenv(name, value)
            yield Worlds(place, stack)
