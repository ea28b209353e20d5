from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from byokd.adapters.sql import open_sqlite
from byokd.adapters.sql.rewraps import _TRIED_WORK, _UNTRIED_WORK
from byokd.adapters.sql.tables import account_keys, accounts
from byokd.domain.identifiers import AccountId, KeyIdentifier, VaultHost
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import EventType, State
from byokd.ports import StaleError
from byokd.records import Rewrapped, RewrapQueue, RewrapWork
from byokd.settings import StoreSettings
from store.builders import (
    KEY,
    CountingIds,
    Stage,
    account_id,
    adoption,
    at,
    auditor,
    commit_rewrap,
    decision,
    denial,
    placement,
    sealed,
    spec,
    suspicion,
    unverified,
    usability,
    version,
)


async def _old_version(stage: Stage, **changes: object) -> None:
    """Decide about the version that the accounts are still on."""
    watch = await stage.watch()
    old = watch.versions[0]
    other = decision(replace(watch, current=old.id), **changes)
    await stage.store.commit_decision(watch, other, now=at(2))


def _doubt(trouble: str, watch: Watch) -> dict[str, Any]:
    if trouble == "denied":
        return denial()
    return suspicion(watch) if trouble == "suspected" else unverified()


async def test_after_an_adoption_the_accounts_are_to_be_rewrapped(stage: Stage) -> None:
    account = await stage.create(1)
    await stage.create(2, key=KEY.at(version(1)))
    await stage.create(3, key=None)
    assert await stage.store.rewrap_work(limit=10, now=at(2)) == []
    await stage.adopt(2)
    (work,) = await stage.store.rewrap_work(limit=10, now=at(2))
    wrapped = await stage.store.wrapped_key(account.id)
    assert work == RewrapWork(account, wrapped, KEY.at(version(2)), 0)


async def test_work_is_bounded_and_oldest_first(stage: Stage) -> None:
    for number in (2, 1, 3):
        await stage.create(number)
    await stage.adopt(2)
    work = await stage.store.rewrap_work(limit=2, now=at(2))
    assert [item.account.id for item in work] == [account_id(1), account_id(2)]
    await stage.store.rewrap_failed(work[0], "no", now=at(2), retry_at=at(3))
    assert [item.account.id for item in await stage.store.rewrap_work(limit=9, now=at(2.9))] == [
        account_id(2),
        account_id(3),
    ]
    assert [item.account.id for item in await stage.store.rewrap_work(limit=9, now=at(3))] == [
        account_id(2),
        account_id(3),
        account_id(1),
    ]


async def test_work_is_told_by_watch_the_longest_adopted_first(stage: Stage) -> None:
    other = KeyIdentifier(VaultHost("fabrikam.vault.azure.net"), "key")
    for number, key in ((1, KEY), (2, KEY), (3, other)):
        await stage.create(number, key=key)
    assert await stage.store.rewrap_queues(now=at(2)) == []
    first, second = await stage.adopt(2, key=other), await stage.watch()
    await stage.store.commit_decision(second, adoption(second, 2, when=at(2)), now=at(2))
    queues = [RewrapQueue(first.id, other.host), RewrapQueue(second.id, KEY.host)]
    assert await stage.store.rewrap_queues(now=at(3)) == queues
    for queue, accounts_of_it in zip(queues, ([3], [1, 2]), strict=True):
        work = await stage.store.rewrap_work(limit=9, now=at(3), watch=queue.watch)
        assert [item.account.id for item in work] == [account_id(number) for number in accounts_of_it]
    await stage.store.rewrap_failed(await stage.work(3), "no", now=at(3), retry_at=at(5))
    assert await stage.store.rewrap_queues(now=at(4.9)) == queues[1:]
    assert await stage.store.rewrap_queues(now=at(5)) == queues


async def test_of_one_watch_those_never_tried_come_first_then_the_oldest_retries(stage: Stage) -> None:
    for number in range(1, 6):
        await stage.create(number)
    watch = (await stage.adopt(2)).id
    for number, retry in ((1, 6), (2, 5), (3, 9)):
        await stage.store.rewrap_failed(await stage.work(number), "no", now=at(2), retry_at=at(retry))

    async def numbers(limit: int) -> list[AccountId]:
        return [work.account.id for work in await stage.store.rewrap_work(limit=limit, now=at(8), watch=watch)]

    assert await numbers(9) == [account_id(number) for number in (4, 5, 2, 1)]
    assert await numbers(3) == [account_id(number) for number in (4, 5, 2)]
    assert await numbers(1) == [account_id(4)]


async def test_a_batch_is_found_without_looking_at_those_that_wait(database: Path) -> None:
    store = open_sqlite(StoreSettings(url=f"sqlite:///{database}"), ids=CountingIds(), auditor=auditor())
    try:
        for statement in (_UNTRIED_WORK, _TRIED_WORK):
            compiled = statement.compile(store._runner.writer, compile_kwargs={"render_postcompile": True})
            text, bound = f"EXPLAIN QUERY PLAN {compiled}", (None,) * len(compiled.positiontup or ())
            plan = await store._runner.read(
                lambda c, text=text, bound=bound: [row[3] for row in c.exec_driver_sql(text, bound)]
            )
            assert not [step for step in plan if "TEMP B-TREE" in step or "SCAN" in step], plan
    finally:
        await store.close()


@pytest.mark.parametrize("trouble", ["denied", "suspected", "unverified"])
async def test_nothing_is_moved_off_a_version_in_doubt(stage: Stage, trouble: str) -> None:
    await stage.create()
    await stage.adopt(2)
    await _old_version(stage, **_doubt(trouble, await stage.watch()))
    assert await stage.store.rewrap_work(limit=10, now=at(3)) == []
    assert await stage.store.rewrap_queues(now=at(3)) == []
    await _old_version(stage, **usability(), suspicion=None, unverified=None)
    assert len(await stage.store.rewrap_work(limit=10, now=at(3))) == 1
    assert len(await stage.store.rewrap_queues(now=at(3))) == 1


@pytest.mark.parametrize("trouble", ["denied", "suspected", "unverified"])
async def test_nothing_is_moved_onto_a_version_in_doubt(stage: Stage, trouble: str) -> None:
    await stage.create()
    watch = await stage.adopt(2)
    await stage.decide(**_doubt(trouble, watch))
    assert await stage.store.rewrap_work(limit=10, now=at(3)) == []
    assert await stage.store.rewrap_queues(now=at(3)) == []


async def test_a_rewrap_moves_the_key_and_keeps_the_previous_one(stage: Stage) -> None:
    before = await stage.create()
    watch = await stage.adopt(2)
    await commit_rewrap(stage.store, await stage.work(), sealed(b"sealed wrap 2"), now=at(4))
    after = await stage.account()
    assert after == replace(
        before,
        sequence=2,
        generation=2,
        wrapping_version=watch.current,
        current=KEY.at(version(2)),
        followed=1,
        updated_at=at(4),
    )
    wrapped = await stage.store.wrapped_key(before.id)
    assert wrapped is not None
    assert (wrapped.generation, wrapped.key_identifier, wrapped.sealed.data) == (2, after.current, b"sealed wrap 2")
    kept = await stage.rows(
        select(account_keys.c.generation, account_keys.c.sealed, account_keys.c.superseded_at).order_by(
            account_keys.c.generation
        )
    )
    assert kept == [(1, b"sealed wrap 1", at(4)), (2, b"sealed wrap 2", None)]
    row = (await stage.history())[-1]
    assert (row.type, row.sequence, row.data["sequence"]) == (EventType.ACCOUNTKEY_REWRAPPED, 2, 2)
    assert row.data["previousKeyIdentifier"] == str(before.current)
    assert row.data["currentKeyIdentifier"] == str(after.current)
    assert await stage.store.rewrap_work(limit=10, now=at(5)) == []
    assert await stage.store.follow(limit=10, now=at(5)) == 0


async def test_a_rewrap_tells_of_the_state_that_it_brings(stage: Stage) -> None:
    await stage.create()
    await stage.decide(**denial(), **unverified())
    await stage.store.follow(limit=10, now=at(2))
    await stage.decide(**usability(), unverified=None)
    await stage.adopt(2)
    await commit_rewrap(stage.store, await stage.work(), sealed(b"sealed wrap 2"), now=at(4))
    assert (await stage.account()).state is State.ACCESSIBLE
    rows = (await stage.history())[-3:]
    assert [row.type for row in rows] == [
        EventType.ACCOUNTKEY_REWRAPPED,
        EventType.ACCOUNT_VERIFIED,
        EventType.ACCOUNT_ACCESSIBLE,
    ]
    assert rows[-1].data["previousState"] == State.INACCESSIBLE
    assert await stage.store.follow(limit=10, now=at(5)) == 0


async def test_a_rewrap_of_a_key_that_moved_meanwhile_is_refused(stage: Stage) -> None:
    await stage.create()
    await stage.adopt(2)
    work = await stage.work()
    await commit_rewrap(stage.store, work, sealed(b"sealed wrap 2"), now=at(4))
    before = await stage.contents()
    with pytest.raises(StaleError):
        await commit_rewrap(stage.store, work, sealed(b"sealed wrap 3"), now=at(5))
    with pytest.raises(StaleError):
        await stage.store.rewrap_failed(work, "no", now=at(5), retry_at=at(6))
    assert await stage.contents() == before


async def test_a_rewrap_of_a_former_life_is_refused(stage: Stage) -> None:
    await stage.create(1)
    await stage.create(2)
    await stage.adopt(2)
    work = await stage.work()
    await stage.store.delete_account(account_id(1), now=at(2))
    with pytest.raises(StaleError):
        await commit_rewrap(stage.store, work, sealed(b"sealed wrap 2"), now=at(4))
    await stage.create(1, version=2)
    with pytest.raises(StaleError):
        await commit_rewrap(stage.store, work, sealed(b"sealed wrap 2"), now=at(4))


async def test_a_change_of_state_meanwhile_does_not_refuse_a_rewrap(stage: Stage) -> None:
    account = await stage.create()
    await stage.adopt(2)
    work = await stage.work()
    await stage.store.update_account(account, spec(location="northeurope"), None, now=at(3))
    await commit_rewrap(stage.store, work, sealed(b"sealed wrap 2"), now=at(4))
    after = await stage.account()
    assert (after.sequence, after.generation, after.spec.location) == (3, 2, "northeurope")


@pytest.mark.parametrize("trouble", ["denied", "superseded"])
async def test_a_rewrap_onto_a_version_that_is_not_fit_any_more_is_refused(stage: Stage, trouble: str) -> None:
    await stage.create()
    await stage.adopt(2)
    work = await stage.work()
    await (stage.decide(**denial()) if trouble == "denied" else stage.adopt(3))
    before = await stage.contents()
    with pytest.raises(StaleError):
        await commit_rewrap(stage.store, work, sealed(b"sealed wrap 2"), now=at(4))
    assert await stage.contents() == before


async def test_rewraps_are_committed_together_and_each_stands_by_itself(stage: Stage) -> None:
    for number in range(1, 6):
        await stage.create(number)
    await stage.adopt(2)
    work = {number: await stage.work(number) for number in range(1, 6)}
    await commit_rewrap(stage.store, work[2], sealed(b"first"), now=at(3))
    await stage.store.delete_account(account_id(3), now=at(3))
    await stage.create(3, version=2)
    await stage.store.delete_account(account_id(4), now=at(3))
    before = await stage.account(2)
    both = [Rewrapped(work[number], sealed(b"wrap %d" % number)) for number in (5, 4, 3, 2, 1, 1)]
    moved = await stage.store.commit_rewraps(both, now=at(4))
    assert moved == {account_id(1), account_id(5)}
    assert await stage.account(2) == before
    for number in (1, 5):
        account = await stage.account(number)
        assert (account.generation, account.sequence) == (2, 2)
        kept = await stage.store.wrapped_key(account.id)
        assert kept is not None
        assert kept.sealed.data == b"wrap %d" % number
    told = [row for row in await stage.history() if row.type == EventType.ACCOUNTKEY_REWRAPPED]
    assert sorted(row.account for row in told) == sorted(str(account_id(number)) for number in (1, 2, 5))
    contents = await stage.contents()
    assert await stage.store.commit_rewraps(both, now=at(5)) == frozenset()
    assert await stage.store.commit_rewraps([], now=at(5)) == frozenset()
    assert await stage.contents() == contents


async def test_of_rewraps_to_two_versions_only_those_to_the_current_one_are_committed(stage: Stage) -> None:
    await stage.create(1)
    await stage.create(2)
    await stage.adopt(2)
    late = await stage.work(1)
    await stage.adopt(3)
    both = [Rewrapped(late, sealed(b"late")), Rewrapped(await stage.work(2), sealed(b"wrap"))]
    assert await stage.store.commit_rewraps(both, now=at(4)) == {account_id(2)}
    assert (await stage.account(1)).generation == 1


async def test_failures_are_counted_and_told_at_every_doubling(stage: Stage) -> None:
    await stage.create()
    await stage.adopt(2)
    for attempt in range(1, 10):
        work = await stage.work(minutes=60 + attempt)
        assert work.attempts == attempt - 1
        await stage.store.rewrap_failed(work, "the vault throttles", now=at(4), retry_at=at(60 + attempt))
    told = [row for row in await stage.history() if row.type == EventType.ACCOUNTKEY_REWRAP_FAILED]
    assert [row.data["attempt"] for row in told] == [1, 2, 4, 8]
    assert [row.sequence for row in told] == [2, 3, 4, 5]
    assert told[0].data["failure"] == "the vault throttles"
    assert told[0].data["targetKeyIdentifier"] == str(KEY.at(version(2)))
    counted = await stage.rows(select(accounts.c.rewrap_attempts, accounts.c.rewrap_due_at))
    assert counted == [(9, at(69))]


async def test_success_and_a_move_forget_the_failures(stage: Stage) -> None:
    for number in (1, 2):
        await stage.create(number)
    await stage.adopt(2)
    for number in (1, 2):
        await stage.store.rewrap_failed(await stage.work(number), "no", now=at(2), retry_at=at(3))
    await commit_rewrap(stage.store, await stage.work(1), sealed(b"sealed wrap 2"), now=at(4))
    await stage.store.update_account(await stage.account(2), spec(2), placement(2), now=at(4))
    assert await stage.rows(select(accounts.c.rewrap_attempts, accounts.c.rewrap_due_at)) == [(0, None), (0, None)]


async def test_a_work_item_shows_no_wrapped_key(stage: Stage) -> None:
    await stage.create()
    await stage.adopt(2)
    assert "sealed wrap" not in repr(await stage.work())
