from dataclasses import replace

import pytest
from sqlalchemy import CursorResult, event, select

from byokd.adapters.sql.tables import account_keys, vaults, watches, wrapping_versions
from byokd.domain.identifiers import IdentityName, KeyIdentifier
from byokd.domain.vocabulary import EventType
from byokd.ports import StaleError
from store.builders import (
    KEY,
    START,
    Stage,
    account_id,
    at,
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


async def _retired(stage: Stage) -> list[str]:
    rows = [row for row in await stage.history() if row.type == EventType.KEY_VERSION_RETIRED]
    assert all(row.stream == KEY.topic and row.retained == "keep" and len(row.data) == 1 for row in rows)
    return [row.data["keyIdentifier"] for row in rows]


async def _rewrap(stage: Stage, number: int = 1, *, minutes: float = 4) -> None:
    await commit_rewrap(stage.store, await stage.work(number), sealed(b"sealed wrap 2"), now=at(minutes))


async def test_superseded_wraps_are_erased_when_they_are_old_enough(stage: Stage) -> None:
    await stage.create()
    await stage.adopt(2)
    await _rewrap(stage, minutes=4)
    assert (await stage.store.settle(before=at(4), now=at(5))).erased == 0
    assert len(await stage.rows(select(account_keys))) == 2
    assert (await stage.store.settle(before=at(4.1), now=at(5))).erased == 1
    assert await stage.rows(select(account_keys.c.generation)) == [(2,)]
    assert (await stage.store.settle(before=at(9), now=at(9))).erased == 0


async def test_many_wraps_are_erased_a_few_at_a_time_and_all_in_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byokd.adapters.sql.account_key_store.SETTLE_BATCH", 2)
    for number in range(1, 6):
        await stage.create(number)
    await stage.adopt(2)
    for number in range(1, 6):
        await _rewrap(stage, number)
    erased = []

    def count(_connection: object, cursor: CursorResult[object], statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM account_keys"):
            erased.append(cursor.rowcount)

    event.listen(stage.store._runner.writer, "after_cursor_execute", count)
    settled = await stage.store.settle(before=at(9), now=at(9))
    event.remove(stage.store._runner.writer, "after_cursor_execute", count)
    assert erased == [2, 2, 1]
    assert settled.erased == 5
    assert settled.watches == {(await stage.watch()).id}
    assert await _retired(stage) == [str(KEY.at(version(1)))]


@pytest.mark.parametrize("doubt", ["denied", "suspected", "unverified", "unverified, not told"])
async def test_a_superseded_wrap_waits_while_the_current_one_is_in_doubt(stage: Stage, doubt: str) -> None:
    await stage.create()
    await stage.adopt(2)
    await _rewrap(stage, minutes=4)
    in_doubt = {
        "denied": denial(),
        "suspected": suspicion(await stage.watch()),
        "unverified": unverified(),
        "unverified, not told": unverified(told=False),
    }
    await stage.decide(**in_doubt[doubt])
    assert (await stage.store.settle(before=at(600), now=at(600))).erased == 0
    assert len(await stage.rows(select(account_keys))) == 2
    assert await _retired(stage) == []
    await stage.decide(**usability(when=at(601)), suspicion=None, unverified=None)
    settled = await stage.store.settle(before=at(600), now=at(602))
    assert (settled.erased, settled.watches) == (1, {(await stage.watch()).id})
    assert await _retired(stage) == [str(KEY.at(version(1)))]


async def test_only_the_accounts_whose_wrap_is_in_doubt_wait(stage: Stage) -> None:
    other = KeyIdentifier(KEY.host, "other")
    for number, key in ((1, KEY), (2, other)):
        await stage.create(number, key=key)
        await stage.adopt(2, key)
        await _rewrap(stage, number)
    await stage.decide(other, **denial())
    assert (await stage.store.settle(before=at(5), now=at(5))).erased == 1
    kept = await stage.rows(select(account_keys.c.account).where(account_keys.c.superseded_at.is_not(None)))
    assert kept == [(str(account_id(2)),)]


async def test_doubt_about_the_key_that_was_left_keeps_no_wrap(stage: Stage) -> None:
    account = await stage.create()
    await stage.create(2)
    await stage.store.update_account(account, spec(key=None), placement(key=None), now=at(1))
    await stage.decide(**denial())
    assert (await stage.store.settle(before=at(2), now=at(3))).erased == 1


async def test_the_erasure_of_the_last_wrap_retires_the_version(stage: Stage) -> None:
    for number in (1, 2):
        await stage.create(number)
    before = await stage.adopt(2)
    await _rewrap(stage, 1, minutes=4)
    await stage.store.settle(before=at(5), now=at(5))
    assert await _retired(stage) == []
    await _rewrap(stage, 2, minutes=6)
    await stage.store.settle(before=at(5), now=at(6))
    assert await _retired(stage) == []
    await stage.store.settle(before=at(7), now=at(8))
    assert await _retired(stage) == [str(KEY.at(version(1)))]
    after = await stage.watch()
    assert after == replace(before, revision=before.revision + 1, versions=before.versions[1:])
    assert after.adopted == {version(1), version(2)}
    rows = await stage.rows(select(wrapping_versions.c.retired_at).order_by(wrapping_versions.c.id))
    assert rows == [(at(8),), (None,)]
    await stage.store.settle(before=at(9), now=at(9))
    assert len(await _retired(stage)) == 1


async def test_a_version_that_never_wrapped_anything_is_retired_too(stage: Stage) -> None:
    await stage.create()
    await stage.adopt(2)
    await stage.adopt(3)
    await stage.store.settle(before=at(1), now=at(5))
    assert await _retired(stage) == [str(KEY.at(version(2)))]
    assert [item.version for item in (await stage.watch()).versions] == [version(1), version(3)]


async def test_a_decision_from_before_the_retirement_is_refused(stage: Stage) -> None:
    await stage.create()
    old = await stage.adopt(2)
    await _rewrap(stage)
    await stage.store.settle(before=at(5), now=at(5))
    with pytest.raises(StaleError):
        await stage.store.commit_decision(old, decision(old), now=at(6))


async def test_the_current_version_is_never_retired(stage: Stage) -> None:
    await stage.create()
    await stage.store.settle(before=at(5), now=at(5))
    assert await _retired(stage) == []
    assert len((await stage.watch()).versions) == 1


@pytest.mark.parametrize("other", ["pinned", "another identity", "another case"])
async def test_a_version_that_another_watch_needs_is_not_announced(stage: Stage, other: str) -> None:
    await stage.create(1)
    if other == "pinned":
        await stage.create(2, key=KEY.at(version(1)))
    elif other == "another case":
        await stage.create(2, key=replace(KEY, name=KEY.name.upper()))
    else:
        ours = spec(2)
        theirs = replace(ours.customer_key, identity=IdentityName("other")) if ours.customer_key else None
        await stage.store.create_account(replace(ours, customer_key=theirs), placement(), incarnation="o", now=START)
    await stage.adopt(2)
    await _rewrap(stage)
    await stage.store.settle(before=at(5), now=at(5))
    assert await _retired(stage) == []
    assert len((await stage.watch()).versions) == 1
    await stage.store.delete_account(account_id(2), now=at(6))
    assert [identifier.lower() for identifier in await _retired(stage)] == [str(KEY.at(version(1))).lower()]


async def test_a_watch_goes_with_its_last_wrap(stage: Stage) -> None:
    account = await stage.create()
    await stage.store.update_account(account, spec(key=None), placement(key=None), now=at(1))
    await stage.store.settle(before=at(1), now=at(2))
    assert len(await stage.rows(select(watches))) == 1
    assert (await stage.store.settle(before=at(2), now=at(3))).erased == 1
    for table in (watches, vaults, wrapping_versions):
        assert await stage.rows(select(table)) == []
    assert await _retired(stage) == [str(KEY.at(version(1)))]


async def test_deleting_the_last_account_announces_every_version_once(stage: Stage) -> None:
    await stage.create()
    await stage.adopt(2)
    await _rewrap(stage)
    await stage.store.delete_account(account_id(), now=at(5))
    assert await _retired(stage) == [str(KEY.at(version(number))) for number in (1, 2)]


async def test_deleting_one_of_two_accounts_retires_what_only_it_needed(stage: Stage) -> None:
    for number in (1, 2):
        await stage.create(number)
    await stage.adopt(2)
    await _rewrap(stage, 1)
    await stage.store.settle(before=at(5), now=at(5))
    await stage.store.delete_account(account_id(2), now=at(6))
    assert await _retired(stage) == [str(KEY.at(version(1)))]
    assert [item.version for item in (await stage.watch()).versions] == [version(2)]


async def test_a_lingering_watch_keeps_its_wraps_openable(stage: Stage) -> None:
    account = await stage.create()
    await stage.store.update_account(account, spec(key=None), placement(key=None), now=at(1))
    other = KeyIdentifier(KEY.host, "other")
    await stage.create(2, key=other)
    await stage.store.delete_account(account_id(2), now=at(1))
    kept = await stage.rows(select(account_keys.c.key_identifier).where(account_keys.c.generation == 1))
    assert kept == [(str(KEY.at(version(1))),)]
    assert (await stage.watch()).current_version.version == version(1)
