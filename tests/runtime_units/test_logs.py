"""What the log takes down of what libraries say."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from byokd.runtime.logs import configure_logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, server = logging.getLogger(), logging.getLogger("uvicorn.error")
    handlers, level, filters, before = root.handlers, root.level, server.filters, structlog.get_config()
    yield
    structlog.configure(**before)
    root.handlers, server.filters = handlers, filters
    root.setLevel(level)


def test_a_warning_of_the_web_server_that_repeats_itself_is_written_now_and_then_and_an_error_always() -> None:
    written = io.StringIO()
    for _ in range(2):  # as at a reload
        configure_logs("info", written)
    server = logging.getLogger("uvicorn.error")
    for _ in range(100):
        server.warning("Invalid HTTP request received.")
        server.warning("another")
    for _ in range(3):
        server.error("a defect")
    said = [json.loads(line)["event"] for line in written.getvalue().splitlines()]
    assert sorted(said) == ["Invalid HTTP request received.", *["a defect"] * 3, "another"]
