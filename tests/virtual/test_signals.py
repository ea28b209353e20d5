"""Signals of Event Grid in a running service: followed for known keys, within what each source may ask for."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.signals import Signal
from byokd.ports import Clock
from byokd.runtime.hinting import BudgetSpentError, Source, WatchesUnknownError
from byokd.settings import EventGridSettings, Settings
from byokd.settings.event_grid import SourceSettings
from virtual.using import number
from virtual.vaults import Vault
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

SPACING = 5.0


def with_source(*vaults: str, per_minute: int = 600) -> Settings:
    one = SourceSettings.model_construct(
        secret_file=None, tenant=None, audience=None, application=None, vaults=vaults, hints_per_minute=per_minute
    )
    return Settings(event_grid=EventGridSettings.model_construct(sources={"azure": one}))


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=with_source("*.vault.azure.net"))


def take(world: World, *signals: Signal, passed_over: int = 0) -> None:
    hints = world.service.hints
    hints.take(hints.sources["azure"], signals, passed_over=passed_over)


def outcomes(world: World) -> dict[str, float]:
    names = ("followed", "repeated", "unknown", "foreign", "ignored", "refused")
    counted = {name: number(world, "byokd_hints_total", source="azure", outcome=name) for name in names}
    return {name: count for name, count in counted.items() if count}


def looks(vault: Vault, *, since: float) -> list[float]:
    return [call.time for call in vault.called("unwrapKey", since=since) if call.way == "probe"]


async def rest(world: World) -> float:
    """Wait until every watch was checked a moment ago, so that no poll comes for most of a minute."""
    for watch in await world.sql.watches():
        await world.service.scheduler.check_now(watch.id)
    await asyncio.sleep(1)
    return world.now


async def test_a_new_version_is_adopted_at_once_and_the_event_is_no_proof_of_anything(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        told_at = await rest(world)
        take(world, Signal("1", key.host, key.name))
        await asyncio.sleep(30)
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]
        assert [round(at - told_at, 1) for at in looks(vault, since=told_at)] == [0.0, SPACING]
        vault.rotate()
        told_at = await rest(world)
        take(world, Signal("2", key.host.partition(".")[0], None))
        rewrapped = await world.until_told(account, "byokd.accountkey.rewrapped", within=2)
        assert rewrapped["at"] - told_at < 1
        assert outcomes(world) == {"followed": 2}


async def test_a_signal_is_followed_once_and_only_for_vaults_of_its_source(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_source("contoso.vault.azure.net"))
    vault, key = world.one_vault()
    other, elsewhere = world.one_vault("fabrikam")
    async with world.running():
        await world.register(key)
        await world.register(elsewhere, first=2)
        begun = await rest(world)
        for _ in range(3):
            take(world, Signal("1", key.host, None), Signal("2", elsewhere.host, None), passed_over=2)
        take(world, Signal("3", key.host, "nobodys"), Signal("4", "contoso.example.com", None))
        await asyncio.sleep(20)
        assert (len(looks(vault, since=begun)), looks(other, since=begun)) == (2, [])
        assert outcomes(world) == {"followed": 1, "repeated": 2, "foreign": 4, "unknown": 1, "ignored": 6}


async def test_beyond_its_budget_a_source_is_refused_and_what_it_said_is_taken_later(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settings=with_source("*.vault.azure.net", per_minute=20))
    vault, first = world.one_vault()
    keys = [first, *(vault.create(f"key-{number}") for number in range(29))]
    async with world.running():
        for number, key in enumerate(keys):
            await world.register(key, first=number + 1)
        await rest(world)
        signals = [Signal(str(count), key.host, key.name) for count, key in enumerate(keys)]
        with pytest.raises(BudgetSpentError) as refused:
            take(world, *signals)
        assert (outcomes(world), refused.value.retry_after) == ({"followed": 20, "refused": 10}, 3)
        await asyncio.sleep(MINUTE)
        take(world, *signals)
        assert outcomes(world) == {"followed": 30, "refused": 10, "repeated": 20}


async def test_what_is_said_while_a_service_goes_is_followed_by_its_successor(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await rest(world)
        vault.latency = 2
        checking = asyncio.create_task(world.service.scheduler.check_now((await world.watch(key)).id))
        await asyncio.sleep(0.5)
        changing = asyncio.create_task(world.reload())
        await asyncio.sleep(0.5)
        take(world, Signal("1", key.host, key.name))
        assert await checking is not None
        vault.latency = 0.02
        await changing
        changed = world.now
        await asyncio.sleep(30)
        assert [round(at - changed, 1) for at in looks(vault, since=changed)] == [0.0, SPACING]


async def test_what_is_said_before_a_successor_has_read_what_is_watched_is_followed(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await rest(world)
        before = world.service.hints
        await world.reload()
        changed = world.now
        take(world, Signal("1", key.host, key.name))
        assert outcomes(world) == {"followed": 1}
        await asyncio.sleep(30)
        assert [round(at - changed, 1) for at in looks(vault, since=changed)] == [0.0, SPACING]
        # A request that began before the change belongs to the one that went.
        begun = await rest(world)
        before.take(before.sources["azure"], [Signal("2", key.host, key.name)], passed_over=0)
        await asyncio.sleep(30)
        assert [round(at - begun, 1) for at in looks(vault, since=begun)] == [0.0, SPACING]


async def test_the_look_that_follows_a_hint_later_outlives_a_reload(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        begun = await rest(world)
        take(world, Signal("1", key.host, key.name))
        await asyncio.sleep(1)
        await world.reload()
        take(world, Signal("2", key.host, key.name))
        await asyncio.sleep(30)
        assert [round(at - begun, 1) for at in looks(vault, since=begun)] == [0.0, SPACING, 2 * SPACING]


async def test_before_it_is_known_what_is_watched_nothing_is_taken(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await world.crash()
        world.store.fail_all = True
        await world.start()
        with pytest.raises(WatchesUnknownError):
            take(world, Signal("1", key.host, key.name), passed_over=1)
        assert outcomes(world) == {}
        world.store.fail_all = False
        await asyncio.sleep(MINUTE)
        take(world, Signal("1", key.host, key.name))
        assert outcomes(world) == {"followed": 1}


async def test_what_makes_nobody_look_is_not_charged(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_source("*.vault.azure.net", per_minute=1))
    _, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await rest(world)
        take(world, *(Signal(f"unknown-{one}", key.host, "nobodys") for one in range(100)))
        take(world, *(Signal(f"known-{one}", key.host, key.name) for one in range(100)))
        assert outcomes(world) == {"unknown": 100, "followed": 100}


async def test_ten_thousand_signals_for_one_key_cost_a_handful_of_looks(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_source("*.vault.azure.net", per_minute=60))
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        begun = await rest(world)
        for batch in range(100):
            take(world, *(Signal(f"{batch}-{one}", key.host, key.name) for one in range(100)))
            await asyncio.sleep(0.2)
        await asyncio.sleep(10)
        assert 5 <= len(looks(vault, since=begun)) <= 20 / SPACING + 2


@dataclass
class HandClock:
    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 200)), max_size=8), st.integers(1, 120))
def test_no_source_ever_has_more_looked_at_than_it_may_ask_for(asked: list[tuple[float, int]], per_minute: int) -> None:
    clock = HandClock()
    settings = with_source("*.vault.azure.net", per_minute=per_minute).event_grid.sources["azure"]
    source = Source("azure", settings, cast("Clock", clock))
    spent: list[float] = []
    for wait, count in asked:
        clock.seconds += wait
        with suppress(BudgetSpentError):
            for _ in range(count):
                source.spend(1)
                spent.append(clock.seconds)
    for begun in spent:
        assert sum(begun <= at <= begun + MINUTE for at in spent) <= 2 * per_minute
    if asked:
        assert spent
