"""Tests marked `real(name)` need a real part. Where it is missing they are not run, and that is said at the very end.

BYOKD_TESTS_REQUIRE_REAL=1 makes a missing part a failure instead.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import Scheduling

from parts import collector
from parts.postgresql import PostgreSQL, postgresql_database, postgresql_server
from parts.registry import PARTS
from parts.scheduling import GroupScheduling, comes_late

pytest_plugins = ["parts.leaks"]

# How long an example takes says nothing on a shared machine; many rules with few examples find more than the reverse.
# CI tries the same examples every time, so that a change is blamed for what it did; everybody else tries new ones.
hypothesis.settings.register_profile(
    "byokd", deadline=None, max_examples=60, print_blob=True, derandomize="CI" in os.environ
)
hypothesis.settings.register_profile("long", hypothesis.settings.get_profile("byokd"), max_examples=3000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "byokd"))

_NOT_RUN = "not run: real part"
_FIGURES = tuple(f"{database} {what}" for database in ("sqlite", "postgresql") for what in ("kill points", "kills"))
"""Properties of tests that are counted up and told at the end."""


def pytest_sessionstart() -> None:
    # Until a loop is set or refused, asyncio makes one for whoever asks; pytest-asyncio asks, and never closes it.
    asyncio.set_event_loop(None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: comes_late(item.nodeid))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    with collector.after_all():
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("real"):
        (name,) = marker.args
        part = PARTS[name]
        if part.is_there():
            continue
        if os.environ.get("BYOKD_TESTS_REQUIRE_REAL") == "1":
            pytest.fail(f"{name} is missing: {part.how_to_get_it}", pytrace=False)
        item.user_properties.append((_NOT_RUN, name))
        pytest.skip(f"{name} is missing: {part.how_to_get_it}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    yield
    missing = Counter(
        name
        for report in terminalreporter.stats.get("skipped", ())
        for key, name in getattr(report, "user_properties", ())
        if key == _NOT_RUN
    )
    figures: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        figures.update({key: value for key, value in report.user_properties if key in _FIGURES})
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line(", ".join(f"{key}: {figures[key]}" for key in _FIGURES if figures[key]))
    if missing:
        terminalreporter.section("real parts that are missing")
    for name, count in sorted(missing.items()):
        terminalreporter.write_line(f"not run: {name} ({count} tests): {PARTS[name].how_to_get_it}")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """What one test lets be logged is not what the next one meets."""
    before = logging.getLogger().level
    yield
    assert logging.getLogger().level == before


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for all tests of this process, which are marked `real("postgresql")`; each takes its own database."""
    with postgresql_server() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """An empty database with byokd's schema, for one test."""
    with postgresql_database(postgresql) as url:
        yield url
