"""Damaged accounts: told once, kept over everything else, and ended by nothing but a proof."""

import pytest
from sqlalchemy import delete, select

from byokd.adapters.sql.tables import account_keys
from byokd.domain.accounts import Account, Damage
from byokd.domain.vocabulary import EventType, State
from byokd.ports import StaleError
from byokd.records import WrappedKey
from store.builders import (
    KEY,
    Stage,
    account_id,
    at,
    commit_rewrap,
    denial,
    placement,
    sealed,
    spec,
    target,
    usability,
    version,
)
from store.test_values import made

DAMAGED, REPAIRED = EventType.ACCOUNT_DAMAGED, EventType.ACCOUNT_REPAIRED


async def wrapped_of(stage: Stage, number: int = 1) -> WrappedKey:
    found = await stage.store.wrapped_key(account_id(number))
    assert found is not None
    return found


async def damage(stage: Stage, number: int = 1, *, minutes: float = 5, message: str = "torn") -> bool:
    wrapped = await wrapped_of(stage, number)
    return await stage.store.account_damaged(account_id(number), wrapped, message, now=at(minutes))


async def told(stage: Stage, account: Account) -> list[str]:
    rows = [row for row in await stage.history() if row.account == str(account.id)]
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    return [row.type for row in rows]


async def test_damage_is_told_once_with_what_it_is_and_changes_no_state(stage: Stage) -> None:
    account, other = await stage.create(1), await stage.create(2)
    assert await damage(stage)
    assert not await damage(stage, minutes=6, message="again")
    now = await stage.account()
    assert now.damage == Damage(at(5), "torn")
    assert (now.state, now.reason, now.message, now.since) == (State.ACCESSIBLE, None, account.message, account.since)
    assert await told(stage, account) == [EventType.ACCOUNT_CREATED, DAMAGED]
    last = (await stage.history())[-1]
    assert (last.data["damagedSince"], last.data["damage"]) == ("2026-03-01T12:05:00.123Z", "torn")
    assert last.retained == "set"
    assert await stage.account(2) == other
    census = await stage.store.census()
    assert (census.damaged_accounts, census.accounts[State.ACCESSIBLE]) == (1, 2)
    gate = await stage.store.gate(account.id)
    assert gate is not None
    assert gate.account.damage == now.damage


async def test_a_proof_ends_it_once(stage: Stage) -> None:
    account = await stage.create()
    wrapped = await wrapped_of(stage)
    assert not await stage.store.account_repaired(wrapped, now=at(4))
    await damage(stage)
    assert await stage.store.account_repaired(wrapped, now=at(6))
    assert not await stage.store.account_repaired(wrapped, now=at(7))
    assert (await stage.account()).damage is None
    assert await told(stage, account) == [EventType.ACCOUNT_CREATED, DAMAGED, REPAIRED]
    assert (await stage.history())[-1].data["damagedSince"] is None
    assert (await stage.store.census()).damaged_accounts == 0


@pytest.mark.parametrize("change", ["rewrapped", "moved", "resealed", "deleted", "made anew", "gone"])
async def test_only_the_very_record_that_was_tried_counts(stage: Stage, change: str) -> None:
    account = await stage.create()
    tried = await wrapped_of(stage)
    if change == "rewrapped":
        await stage.adopt(2)
        await commit_rewrap(stage.store, await stage.work(), sealed(b"sealed wrap 2"), now=at(2))
    elif change == "moved":
        await stage.store.update_account(account, spec(key=None), placement(key=None, wrap=b"other"), now=at(2))
    elif change == "resealed":
        row = account_keys.update().values(sealed=b"the same under another seal")
        await stage.store._runner.write(lambda c: c.execute(row))
    else:
        await stage.store.delete_account(account.id, now=at(2))
        if change == "made anew":
            place = placement(1, wrap=b"another life")
            await stage.store.create_account(spec(), place, incarnation="another", now=at(3))
    before = await stage.contents()
    wrapped = None if change == "gone" else tried
    assert not await stage.store.account_damaged(account.id, wrapped, "torn", now=at(5))
    assert not await stage.store.account_repaired(tried, now=at(5))
    assert await stage.contents() == before


async def test_a_record_that_is_not_there_is_damage_only_while_it_is_not(stage: Stage) -> None:
    account = await stage.create()
    assert not await stage.store.account_damaged(account.id, None, "gone", now=at(5))
    await stage.store._runner.write(lambda c: c.execute(delete(account_keys)))
    assert await stage.store.account_damaged(account.id, None, "gone", now=at(5))
    assert (await stage.account()).damage == Damage(at(5), "gone")


async def test_damage_outlives_verdicts_adoptions_changes_and_failed_rewraps(stage: Stage) -> None:
    account = await stage.create()
    await damage(stage)
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(6))
    assert (await stage.account()).state is State.INACCESSIBLE
    await stage.decide(**usability())
    await stage.store.follow(limit=10, now=at(7))
    assert (await stage.account()).state is State.ACCESSIBLE
    await stage.store.update_account(await stage.account(), spec(location="elsewhere"), None, now=at(8))
    await stage.adopt(2)
    await stage.store.rewrap_failed(await stage.work(), "torn", now=at(9), retry_at=at(10))
    assert (await stage.account()).damage == Damage(at(5), "torn")
    assert DAMAGED not in (await told(stage, account))[2:]
    assert [work.account.id for work in await stage.store.rewrap_work(limit=9, now=at(11))] == [account.id], "tried on"


@pytest.mark.parametrize("proof", ["rewrap", "another key"])
async def test_a_proved_key_in_its_place_ends_it(stage: Stage, proof: str) -> None:
    account = await stage.create()
    await damage(stage)
    if proof == "rewrap":
        await stage.adopt(2)
        await commit_rewrap(stage.store, await stage.work(), sealed(b"sealed wrap 2"), now=at(6))
        expected = [EventType.ACCOUNTKEY_REWRAPPED, REPAIRED]
    else:
        await stage.store.update_account(await stage.account(), spec(key=None), placement(key=None), now=at(6))
        expected = [EventType.ACCOUNT_UPDATED, REPAIRED]
    assert (await stage.account()).damage is None
    assert await told(stage, account) == [EventType.ACCOUNT_CREATED, DAMAGED, *expected]


async def test_superseded_wraps_of_a_damaged_account_are_not_erased_for_they_may_be_all_that_is_left(
    stage: Stage,
) -> None:
    for number in (1, 2):
        await stage.create(number)
    await stage.adopt(2)
    for number in (1, 2):
        await commit_rewrap(stage.store, await stage.work(number), sealed(b"sealed wrap 2"), now=at(2))
    await damage(stage, 1)
    assert (await stage.store.settle(before=at(60), now=at(60))).erased == 1
    left = await stage.rows(select(account_keys.c.account).where(account_keys.c.superseded_at.is_not(None)))
    assert left == [(str(account_id(1)),)]
    await stage.store.account_repaired(await wrapped_of(stage, 1), now=at(61))
    assert (await stage.store.settle(before=at(62), now=at(62))).erased == 1


async def test_nothing_is_written_to_a_damaged_account_and_it_can_be_deleted(stage: Stage) -> None:
    account = await stage.create()
    await damage(stage)
    with pytest.raises(StaleError, match="damaged"):
        await stage.store.put_value(account, made(), most=10, now=at(6))
    assert await stage.store.delete_account(account.id, now=at(7))
    assert await stage.store.find_watch(target(KEY)) is None


async def test_known_damage_is_told_with_the_stored_keys(stage: Stage) -> None:
    for number in (1, 2):
        await stage.create(number, version=1)
    await damage(stage, 2)
    found = await stage.store.stored_keys(after=None, limit=9)
    assert [(one.wrapped.account, one.damaged) for one in found] == [(account_id(1), False), (account_id(2), True)]
    assert (await stage.watch()).current_version.version == version(1)
