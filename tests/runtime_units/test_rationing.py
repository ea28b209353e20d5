"""The share of a vault's limit: never more than it in any ten seconds, the urgent first, and nobody for ever."""

import asyncio
import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.answers import OWN_LIMIT, Evidence, KeyFacts, NoAnswer
from byokd.domain.identifiers import KeyIdentifier, KeyVersion, VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports import KeyTarget
from byokd.runtime.metrics import Metrics
from byokd.runtime.rationing import (
    DEAREST,
    HEAD_START,
    LIMIT,
    MOST_KNOWN,
    PATIENCE,
    WINDOW,
    Patience,
    Priority,
    RationedKeys,
    Rations,
    own_limit,
)
from byokd.runtime.rounds import Round
from virtual.vaults import IDENTITY, TENANT, Mishap, SimulatedVaults, facts_of
from virtual.world import VirtualClock, virtually

HOST = VaultHost("contoso.vault.azure.net")
VERSION = KeyVersion("0" * 31 + "1")
SHARE = 0.05
OURS = SHARE * LIMIT


def rations(share: float = SHARE) -> Rations:
    return Rations(share, clock=VirtualClock(), metrics=Metrics())


def now() -> float:
    return asyncio.get_running_loop().time()


async def take(ours: Rations, units: int, priority: Priority, within: float | None = None) -> float | None:
    """Give when it was granted; None when it was not."""
    PATIENCE.set(None if within is None else Patience(now() + within))
    return now() if await ours.take(HOST, units, priority) else None


CALLS = st.tuples(
    st.floats(0, 40), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from(Priority), st.none() | st.floats(0.01, 15)
)


@given(st.lists(CALLS, max_size=150), st.integers(0, 60))
def test_no_ten_seconds_hold_more_than_our_share_whoever_asks_for_whatever(
    calls: list[tuple[float, int, Priority, float | None]], flood: int
) -> None:
    calls = [*calls, *[(5.0, 16, Priority.REWRAP, None)] * flood]

    async def one(ours: Rations, at: float, units: int, priority: Priority, within: float | None) -> float | None:
        await asyncio.sleep(at)
        granted = await take(ours, units, priority, within)
        assert within is None or now() <= at + within + 0.001, "nobody waits beyond his deadline"
        assert within is not None or granted is not None, "who has time gets his turn"
        return granted

    async def scenario() -> list[tuple[float, int]]:
        ours = rations()
        granted = await asyncio.gather(*(one(ours, *call) for call in calls))
        return sorted((at, call[1]) for at, call in zip(granted, calls, strict=True) if at is not None)

    spent = virtually(scenario())
    for begin, _ in spent:
        within = sum(units for at, units in spent if begin <= at < begin + WINDOW.total_seconds())
        assert within <= OURS + 0.001


def test_an_idle_vault_is_asked_at_once_and_a_busy_one_at_the_steady_rate() -> None:
    async def scenario() -> None:
        ours = rations()
        granted = await asyncio.gather(*(take(ours, 1, Priority.REWRAP) for _ in range(200)))
        assert [at for at in granted if at == 0.0] == [0.0] * round(OURS * 0.1)
        assert max(at for at in granted if at is not None) == pytest.approx(180 / (OURS * 0.09), abs=0.1)

    virtually(scenario())


def test_the_urgent_come_first_among_those_that_wait() -> None:
    async def scenario() -> None:
        ours = rations()
        await take(ours, round(OURS * 0.1), Priority.REWRAP)
        order: list[Priority] = []

        async def one(priority: Priority) -> None:
            await take(ours, 4, priority)
            order.append(priority)

        async with asyncio.TaskGroup() as group:
            for priority in reversed(Priority):
                group.create_task(one(priority))
                group.create_task(one(priority))
        assert order == [priority for priority in Priority for _ in range(2)]

    virtually(scenario())


def test_no_priority_waits_for_ever_below_one_that_asks_without_end() -> None:
    async def scenario() -> None:
        ours = rations()

        async def checks() -> None:
            while True:
                await take(ours, 4, Priority.CHECK)

        floods = [asyncio.create_task(checks()) for _ in range(4)]
        await asyncio.sleep(20)
        for priority in (Priority.USE, Priority.REWRAP, Priority.VERIFICATION):
            begun = now()
            assert await take(ours, 4, priority, within=15) is not None
            assert now() - begun < 10
        begun = now()
        assert await take(ours, 4, Priority.CONFIRMATION, within=5) is not None
        assert now() - begun <= 0.5, "a confirmation waits for nobody"
        for flood in floods:
            flood.cancel()

    virtually(scenario())


def test_who_cannot_be_served_in_time_hears_so_at_once_and_takes_nothing() -> None:
    async def scenario() -> None:
        ours = rations()
        assert await take(ours, round(OURS * 0.1), Priority.USE) is not None
        assert await take(ours, 16, Priority.USE, within=0.5) is None
        assert now() == 0.0
        await asyncio.sleep(1.2)
        assert await take(ours, 20, Priority.USE, within=0.01) is not None

    virtually(scenario())


def test_who_is_cancelled_while_waiting_holds_nobody_up() -> None:
    async def scenario() -> None:
        ours = rations()
        await take(ours, round(OURS * 0.1), Priority.USE)
        first = asyncio.create_task(take(ours, 16, Priority.CHECK))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(take(ours, 1, Priority.CHECK))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await second == pytest.approx(0.2, abs=0.01)

    virtually(scenario())


def test_vaults_that_nobody_asks_any_more_are_forgotten_and_none_costs_another() -> None:
    async def scenario() -> None:
        ours = rations()
        for number in range(1000):
            assert await ours.take(VaultHost(f"vault{number}.vault.azure.net"), 16, Priority.CHECK)
        assert now() == 0.0
        assert len(ours) == 1000
        await asyncio.sleep(11)
        await take(ours, 1, Priority.CHECK)
        assert len(ours) == 1

    virtually(scenario())


def test_without_a_limit_nobody_waits() -> None:
    async def scenario() -> None:
        ours = rations(0)
        for _ in range(10_000):
            assert await take(ours, 16, Priority.VERIFICATION) == 0.0

    virtually(scenario())


async def _spent(type_: str, bits: int) -> tuple[int, int, int]:
    """What the first unwrap of a key costs, its GET, and the unwraps from then on."""
    costs: list[int] = []

    class Counting(Rations):
        async def take(self, host: VaultHost, units: int, priority: Priority) -> bool:
            costs.append(units)
            return await super().take(host, units, priority)

    vaults = SimulatedVaults(VirtualClock())
    vault = vaults.make()
    key = vault.create()
    vault.key().type = type_
    exact = KeyTarget(IDENTITY, TENANT, key.at(vault.key().newest.id))
    keys = RationedKeys(_Sized(vaults, bits), Counting(SHARE, clock=VirtualClock(), metrics=Metrics()), Priority.CHECK)
    await keys.unwrap(exact, bytes(bits // 8))
    await keys.get(KeyTarget(IDENTITY, TENANT, key))
    await keys.unwrap(exact, bytes(bits // 8))
    await keys.wrap(exact, b"payload")
    assert costs[2] == costs[3], "of a key that is known, wrapping costs what unwrapping does"
    return costs[0], costs[1], costs[2]


class _Sized:
    """A simulated vault whose keys have another size."""

    def __init__(self, vaults: SimulatedVaults, bits: int) -> None:
        self._keys, self._vaults, self._bits = vaults.kept, vaults, bits
        self.wrap, self.unwrap = vaults.kept.wrap, vaults.kept.unwrap

    async def get(self, target: KeyTarget) -> KeyFacts:
        key = self._vaults.vaults[target.key.host].key()
        facts = facts_of(key, key.newest)
        return KeyFacts(facts.version, facts.key_type, self._bits, enabled=True, operations=facts.operations)


@pytest.mark.parametrize(
    ("type_", "bits", "units"),
    [
        ("RSA", 2048, 1),
        ("RSA", 3072, 4),
        ("RSA", 4096, 8),
        ("RSA-HSM", 2048, 2),
        ("RSA-HSM", 3072, 8),
        ("RSA-HSM", 4096, 16),
    ],
)
def test_an_operation_weighs_what_the_documented_limit_says(type_: str, bits: int, units: int) -> None:
    first, get, later = virtually(_spent(type_, bits))
    assert (get, later) == (1, units)
    assert first == 2 * {2048: 1, 3072: 4, 4096: 8}[bits], "unknown, it counts as in an HSM"


def test_of_an_unknown_key_wrapping_counts_as_with_the_dearest() -> None:
    ours = virtually(_made())
    assert ours.weight(KeyIdentifier(HOST, "media-key", VERSION), wrapped=None) == DEAREST
    for odd in (0, 1, 128, 1000):
        assert ours.weight(KeyIdentifier(HOST, "media-key", VERSION), wrapped=bytes(odd)) == DEAREST


def test_what_is_remembered_of_keys_is_bounded() -> None:
    ours = virtually(_made())
    facts = KeyFacts(VERSION, "RSA", 2048, enabled=True, operations=frozenset())
    for number in range(MOST_KNOWN + 10):
        ours.learn(KeyIdentifier(HOST, f"key-{number}"), facts)
    assert len(ours._weights) == MOST_KNOWN


async def _made() -> Rations:
    return rations()


def test_a_call_that_was_not_made_says_so_and_reaches_no_vault() -> None:
    async def scenario() -> None:
        vaults = SimulatedVaults(VirtualClock())
        vault = vaults.make("contoso")
        key = vault.create()
        ours = rations()
        await take(ours, round(OURS * 0.1), Priority.USE)
        PATIENCE.set(Patience(now() + 0.01))
        target = KeyTarget(IDENTITY, TENANT, key.at(vault.key().newest.id))
        keys = ours.of(vaults.kept, Priority.REWRAP)
        answers = [await keys.get(target), await keys.wrap(target, b"x"), await keys.unwrap(target, bytes(512))]
        for answer, operation in zip(answers, ("get", "wrapKey", "unwrapKey"), strict=True):
            assert answer == NoAnswer(Reason.THROTTLED, Evidence(operation, code=OWN_LIMIT))
        assert vault.calls == []

    virtually(scenario())


def test_waits_are_measured_by_priority_and_calls_that_need_none_are_not() -> None:
    async def scenario() -> Metrics:
        metrics = Metrics()
        ours = Rations(SHARE, clock=VirtualClock(), metrics=metrics)
        for units in (1, 16, 10):
            await take(ours, units, Priority.CHECK)
        await take(ours, 16, Priority.USE, within=0.1)
        return metrics

    value = virtually(scenario()).registry.get_sample_value
    count, given_up = "byokd_vault_call_wait_seconds_count", "byokd_vault_calls_given_up_total"
    assert [value(count, {"priority": each}) for each in ("check", "use", "rewrap")] == [1, 1, None]
    assert [value(given_up, {"priority": each}) for each in ("check", "use")] == [None, 1]


def test_head_starts_are_in_the_order_of_the_priorities() -> None:
    assert list(HEAD_START) == list(Priority)
    assert all(sooner > later for sooner, later in itertools.pairwise(HEAD_START.values()))


@pytest.mark.parametrize("spent", [0, round(OURS * 0.1)])
def test_a_deadline_that_our_own_limit_used_up_is_not_the_vaults(spent: int) -> None:
    """The vault hangs; whether it was asked in time is what counts."""

    async def scenario() -> NoAnswer:
        clock = VirtualClock()
        vaults = SimulatedVaults(clock)
        vault = vaults.make("contoso")
        key = vault.create()
        vault.strike(Mishap.HANG)
        ours = Rations(SHARE, clock=clock, metrics=Metrics())
        if spent:
            await take(ours, spent, Priority.USE)
        calls = Round(ours.of(vaults.kept, Priority.CHECK), clock, deadline=timedelta(seconds=1))
        answer = await calls.get(KeyTarget(IDENTITY, TENANT, key))
        assert now() == pytest.approx(1.0, abs=0.001)
        assert isinstance(answer, NoAnswer)
        return answer

    answer = virtually(scenario())
    assert answer == (own_limit("get") if spent else NoAnswer(Reason.TIMED_OUT, Evidence("get")))
