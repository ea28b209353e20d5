"""A vault that is slow and well: everything that there is to look at has its turn, however short a check is."""

import asyncio
from collections.abc import Callable

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.identifiers import AccountId, KeyIdentifier, WatchId, WrappingVersionId
from byokd.domain.vocabulary import Reason, State
from byokd.runtime.explaining import _cut_at
from byokd.runtime.looking import MOST_BEHIND, NEWEST, Item, Turns
from byokd.settings import Settings, VaultSettings
from virtual.test_explaining import document, printed  # noqa: F401 - a fixture
from virtual.vaults import Vault
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

REWRAPPED = "byokd.accountkey.rewrapped"


async def with_former(world: World, vault: Vault, key: KeyIdentifier, *, count: int) -> AccountId:
    """An account whose key was rotated so often of late that all former versions are still looked at."""
    (account,) = await world.register(key)
    for number in range(1, count + 1):
        vault.rotate()
        await world.service.scheduler.check_now((await world.watch(key)).id)
        await world.until_told(account, REWRAPPED, within=10, times=number)
    assert len((await world.watch(key)).versions) == count + 1
    return account


@pytest.mark.parametrize(("former", "latency"), [(4, 0.8), (4, 1.0), (5, 0.8), (12, 0.4), (3, 1.2)])
async def test_a_new_version_is_adopted_in_the_second_check_however_many_former_ones_there_are(
    world: World, former: int, latency: float
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        account = await with_former(world, vault, key, count=former)
        vault.latency = latency
        vault.rotate()
        watch = (await world.watch(key)).id
        for _ in range(2):
            await world.service.scheduler.check_now(watch)
        assert (await world.watch(key)).current_version.version == vault.key().newest.id
        assert await world.state(account) is State.ACCESSIBLE


@pytest.mark.parametrize("latency", [0.8, 1.5, 2.2])
async def test_a_former_version_that_is_disabled_is_found_out_although_the_newest_cannot_prove_itself_in_time(
    world: World, latency: float
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await with_former(world, vault, key, count=4)
        vault.latency = latency
        vault.rotate()
        await asyncio.sleep(3 * MINUTE)
        for index in range(4):
            vault.disable(version=index)

        async def all_are_denied() -> bool:
            watch = await world.watch(key)
            return all(version.verdict.outcome == "Denied" for version in watch.versions[:4])

        await world.until(all_are_denied, within=10 * MINUTE)


async def test_explain_and_one_line_in_the_log_say_why_the_newest_version_is_not_adopted(
    world: World,
    printed: Callable[..., Result],  # noqa: F811 - the fixture
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        account = await with_former(world, vault, key, count=4)
        assert (await document(world, account))["newestNotAdopted"] is None
        vault.latency = 1.4  # four calls take longer than a check
        vault.rotate()
        await asyncio.sleep(10 * MINUTE)
        found = await document(world, account)
        assert found["newestKeyIdentifier"] == str(key.at(vault.key().newest.id))
        why = found["newestNotAdopted"]
        assert why.startswith("the last check ended after 5 s (checks.deadline) with ")
        assert why.endswith(
            " of 6 things to read unread (each version in use, and the newest); the next one begins with those"
        )
        (line,) = [entry for entry in world.logs if entry["event"] == "check-cut-short"]
        assert (line["log_level"], line["of"], line["key"]) == ("warning", 6, str(key))
        assert 0 < line["unread"] < 6

        vault.latency = 0.02
        await asyncio.sleep(2 * MINUTE)
        mended = await document(world, account)
        assert mended["newestNotAdopted"] is None
        assert len([entry for entry in world.logs if entry["event"] == "check-cut-short"]) == 1
    assert f"  not adopted {why}" in printed(found).output
    assert "not adopted" not in printed(mended).output


async def test_where_nobody_comes_to_know_whether_there_is_a_newer_version_that_is_said_but_not_of_a_pinned_key(
    world: World,
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (pinned,) = await world.register(key.at(vault.key().newest.id))
        (moving,) = await world.register(key, first=2)

        async def told() -> list[str | None]:
            return [(await document(world, account))["newestNotAdopted"] for account in (pinned, moving)]

        await asyncio.sleep(3 * MINUTE)
        assert await told() == [None, None]
        vault.latency = 3.0  # two calls take longer than a check
        vault.rotate()
        await asyncio.sleep(3 * MINUTE)
        of_pinned, of_moving = await told()
        assert of_pinned is None
        assert str(of_moving).startswith(
            "a newer version, if there is one: the last check ended after 5 s (checks.deadl"
        )
        vault.latency = 0.02
        vault.strike(Reason.VAULT_ERROR, "get")
        await asyncio.sleep(3 * MINUTE)
        silent = "a newer version, if there is one: the last check got no answer about it: VaultError"
        assert await told() == [None, silent]


async def test_a_vault_that_is_slow_now_and_then_is_told_of_once_an_hour(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await with_former(world, vault, key, count=4)
        for _ in range(3):
            vault.latency = 1.4
            await asyncio.sleep(3 * MINUTE)
            vault.latency = 0.02
            await asyncio.sleep(MINUTE)
        assert len((await world.watch(key)).versions) == 5, "all of them are still to be read"
    assert sum(entry["event"] == "check-cut-short" for entry in world.logs) == 1


async def test_our_own_limit_is_told_apart_from_a_slow_vault_and_has_no_line_in_the_log(world: World) -> None:
    """It meets all keys of a vault, and has a metric."""
    vault, key = world.one_vault()
    async with world.running():
        await with_former(world, vault, key, count=70)
        await world.reload(Settings(vaults=VaultSettings(quota_share=0.05)))
        vault.rotate()
        watch = (await world.watch(key)).id
        for _ in range(4):
            await asyncio.sleep(10)
            await world.service.scheduler.check_now(watch)
        assert (await world.watch(key)).current_version.version == vault.key().newest.id
        looks = world.service.sightings.of(watch)
        assert sum(look.shortfall is not None and look.shortfall.limited for look in looks) >= 2
        (first, *_) = (look.shortfall for look in looks if look.shortfall is not None and look.shortfall.newest)
        why = _cut_at(first, world.settings.checks.deadline)
        assert "cut off by our own limit on calls to the vault (vaults.quota_share) with " in why
        assert not [entry for entry in world.logs if entry["event"] == "check-cut-short"]


ITEMS = st.integers(1, 12).map(lambda count: (*(WrappingVersionId(number) for number in range(1, count)), NEWEST))


@given(items=ITEMS, fits=st.integers(1, 12), too_big=st.sets(st.integers(1, 12)), begins_with=st.data())
def test_whatever_fits_into_a_look_is_read_within_a_round(
    items: tuple[Item, ...], fits: int, too_big: set[int], begins_with: st.DataObject
) -> None:
    """`fits` items can be read in one look; those of `too_big` in none, however early they come."""
    turns, watch = Turns(), WatchId(1)
    first = tuple(begins_with.draw(st.permutations(items)))
    turns.note(watch, first, unread=first[begins_with.draw(st.integers(0, len(first))) :])
    read: set[Item] = set()
    for _ in range(2 * len(items) + 1):
        order = turns.order(watch, items)
        assert sorted(order, key=str) == sorted(items, key=str)
        fitting = next((at for at, item in enumerate(order) if item in too_big or at == fits), len(order))
        read |= set(order[:fitting])
        turns.note(watch, order, unread=order[fitting:])
    assert read == {item for item in items if item not in too_big}


def test_what_is_remembered_of_cut_looks_is_bounded_and_ends_with_a_whole_one() -> None:
    turns, item = Turns(), WrappingVersionId(1)
    for number in range(MOST_BEHIND + 1):
        turns.note(WatchId(number), (item, NEWEST), unread=(NEWEST,))
    assert turns.order(WatchId(0), (item, NEWEST)) == (item, NEWEST), "the one cut longest ago is forgotten"
    assert turns.order(WatchId(1), (item, NEWEST)) == (NEWEST, item)
    assert turns.order(WatchId(1), (NEWEST,)) == (NEWEST,)
    turns.note(WatchId(1), (NEWEST, item), unread=())
    assert turns.order(WatchId(1), (item, NEWEST)) == (item, NEWEST)
