from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from byokd.runtime.health import Component, Condition, Health

NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class SetClock:
    time: datetime = field(default=NOW)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        raise AssertionError("health measures no intervals")

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"health waits for nothing, not even for {seconds} s")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def health(clock: SetClock) -> Health:
    return Health(clock)


def test_nothing_is_well_before_it_is_known(health: Health) -> None:
    assert not any(health.is_well(component) for component in Component)
    assert health.conditions == {}


def test_trouble_is_said_once_when_it_begins_and_once_when_it_ends(health: Health) -> None:
    with capture_logs() as logs:
        health.well(Component.BUS)
        for _ in range(3):
            health.trouble(Component.BUS, "connection refused", hint="start the broker")
        health.trouble(Component.BUS, "timed out")
        for _ in range(3):
            health.well(Component.BUS)
        health.trouble(Component.BUS, "connection refused")
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("component-in-trouble", "warning"),
        ("component-recovered", "info"),
        ("component-in-trouble", "warning"),
    ]
    assert (logs[0]["message"], logs[0]["hint"]) == ("connection refused", "start the broker")


def test_a_component_that_comes_up_well_is_not_worth_a_line(health: Health) -> None:
    with capture_logs() as logs:
        health.well(Component.STORE)
    assert logs == []
    assert health.is_well(Component.STORE)


def test_trouble_from_the_start_is_said(health: Health) -> None:
    with capture_logs() as logs:
        health.trouble(Component.STORE, "locked")
    assert len(logs) == 1


def test_since_is_when_the_condition_began_and_the_message_is_the_last_one(health: Health, clock: SetClock) -> None:
    health.trouble(Component.STORE, "locked")
    clock.time += MINUTE
    health.trouble(Component.STORE, "full", hint="make room")
    assert health.conditions[Component.STORE] == Condition(well=False, since=NOW, message="full", hint="make room")
    clock.time += MINUTE
    health.well(Component.STORE)
    clock.time += MINUTE
    health.well(Component.STORE)
    assert health.conditions[Component.STORE] == Condition(well=True, since=NOW + 2 * MINUTE, message="ok")


def test_components_are_apart(health: Health) -> None:
    health.well(Component.STORE)
    health.trouble(Component.BUS, "gone")
    assert health.is_well(Component.STORE)
    assert not health.is_well(Component.BUS)


def test_what_is_handed_out_does_not_change_what_is_known(health: Health) -> None:
    health.well(Component.STORE)
    handed = health.conditions
    health.trouble(Component.STORE, "gone")
    assert handed[Component.STORE].well
