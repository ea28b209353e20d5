"""Doubts: from a denial to the next check that found the version usable."""

from datetime import timedelta

import pytest

from byokd.domain.identifiers import KeyIdentifier, KeyVersion, VaultHost
from byokd.ports import KeyTarget
from byokd.runtime import doubts as module
from byokd.runtime.doubts import Doubts
from store.builders import IDENTITY, TENANT
from virtual.world import START


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> object:
        return START

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps {seconds} s here")


def target(number: int) -> KeyTarget:
    key = KeyIdentifier(VaultHost("contoso.vault.azure.net"), "key", KeyVersion(f"{number:032x}"))
    return KeyTarget(IDENTITY, TENANT, key)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def doubts(clock: HandClock) -> Doubts:
    return Doubts(clock, memory=timedelta(minutes=5))  # type: ignore[arg-type]


def test_only_a_check_that_began_after_the_denial_ends_the_doubt(clock: HandClock, doubts: Doubts) -> None:
    clock.seconds = 10
    doubts.deny(target(1))
    doubts.clear(target(1), asked=9)
    assert doubts.is_in_doubt(target(1))
    assert not doubts.is_in_doubt(target(2))
    doubts.clear(target(1), asked=11)
    assert not doubts.is_in_doubt(target(1))
    assert doubts.denied_since(target(1), 9), "an unwrap of then proves nothing, though it is usable now"
    assert not doubts.denied_since(target(1), 11)


def test_every_denial_drops_and_only_the_report_that_is_news_asks_for_a_check(doubts: Doubts) -> None:
    dropped: list[KeyTarget] = []
    checked: list[KeyTarget] = []
    doubts.on_denial(dropped.append)
    doubts.on_report(checked.append)
    doubts.report(target(1))
    doubts.report(target(1))
    doubts.deny(target(2))
    doubts.report(target(2))
    assert dropped == [target(1), target(1), target(2), target(2)]
    assert checked == [target(1)]


def test_what_can_matter_no_more_is_forgotten(clock: HandClock, doubts: Doubts) -> None:
    doubts.deny(target(1))
    doubts.deny(target(3))
    clock.seconds = 1
    doubts.clear(target(1), asked=1)
    clock.seconds = 302
    doubts.deny(target(2))
    clock.seconds = 303
    doubts.clear(target(2), asked=303)
    assert doubts._denied_at.keys() == {target(2), target(3)}


def test_a_successor_knows_what_was_known(clock: HandClock, doubts: Doubts, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.seconds = 3
    doubts.deny(target(1))
    successor = Doubts(clock, memory=timedelta(minutes=5))  # type: ignore[arg-type]
    doubts.bequeath(successor)
    assert successor.is_in_doubt(target(1))
    assert not successor.is_in_doubt(target(2))
    assert successor.denied_since(target(1), 3)
    successor.clear(target(1), asked=3)
    assert successor.is_in_doubt(target(1)), "a check that began with the denial does not end the doubt"
    monkeypatch.setattr(module, "MOST", 0)
    doubts.deny(target(2))
    doubts.bequeath(successor)
    assert successor.is_in_doubt(target(2))


def test_many_recoveries_at_once_are_not_each_a_look_at_all(clock: HandClock, doubts: Doubts) -> None:
    for number in range(3):
        doubts.deny(target(number))
    for number in range(3):
        clock.seconds = 400 + number
        doubts.clear(target(number), asked=400)
    assert doubts._denied_at.keys() == {target(1), target(2)}, "looked at once, when the first one recovered"


def test_at_the_bound_everything_is_in_doubt(clock: HandClock, doubts: Doubts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    for number in (1, 2, 3):
        clock.seconds += 1
        doubts.deny(target(number))
    assert len(doubts._denied_at) == 2
    assert doubts.is_in_doubt(target(9))
    assert doubts.denied_since(target(9), 3)
    assert not doubts.denied_since(target(9), 3.5), "an unwrap begun since may be used, but is not kept"
