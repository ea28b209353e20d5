from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest

from byokd.domain.decide import KeyEvent
from byokd.domain.verdict import WatchWarning
from byokd.domain.vocabulary import EventType, Outcome, Reason, WarningKind
from byokd.ports import StaleError
from store.builders import (
    IDENTITY,
    KEY,
    START,
    Stage,
    adoption,
    at,
    decision,
    denial,
    probe,
    suspicion,
    unverified,
    usability,
    version,
)


@pytest.mark.parametrize("change", [denial(), usability(), unverified(), unverified(told=False)])
async def test_a_verdict_is_read_back_as_it_was_decided(stage: Stage, change: dict[str, Any]) -> None:
    await stage.create()
    before = await stage.watch()
    decided = decision(before, **change)
    after = await stage.store.commit_decision(before, decided, now=at(1))
    assert after == await stage.watch()
    assert after.current_version.verdict == decided.verdicts[before.current]
    assert (after.revision, after.due_at) == (before.revision + 1, decided.next_due)


async def test_a_suspicion_is_read_back(stage: Stage) -> None:
    await stage.create()
    before = await stage.watch()
    after = await stage.store.commit_decision(before, decision(before, **suspicion(before)), now=at(1))
    assert after == await stage.watch()
    assert after.current_version.verdict.suspicion is not None


async def test_warnings_are_replaced(stage: Stage) -> None:
    await stage.create()
    warnings = (
        WatchWarning(WarningKind.NEW_VERSIONS_UNSEEN, None, "GET is refused"),
        WatchWarning(WarningKind.KEY_EXPIRED, version(1), "expired"),
        WatchWarning(WarningKind.NEAR_EXPIRY, version(1), "expires soon", at(99)),
    )
    first = await stage.store.commit_decision(
        await stage.watch(), replace(decision(await stage.watch()), warnings=warnings), now=at(1)
    )
    assert first == await stage.watch()
    assert first.warnings == warnings
    second = await stage.store.commit_decision(first, replace(decision(first), warnings=()), now=at(2))
    assert second == await stage.watch()
    assert second.warnings == ()


async def test_key_events_go_to_the_stream_of_the_key(stage: Stage) -> None:
    await stage.create()
    told = KeyEvent(EventType.KEY_EXPIRED, {"keyIdentifier": str(KEY), "message": "expired", "detectedBy": None})
    await stage.store.commit_decision(
        await stage.watch(), replace(decision(await stage.watch()), events=(told, told)), now=at(1)
    )
    rows = (await stage.store.unpublished(after=1, limit=10))[-2:]
    for row in rows:
        assert (row.stream, row.type, row.time) == (KEY.topic, told.type, at(1))
        assert (row.data, row.retained) == ({**told.data, "identity": IDENTITY}, "keep")
    assert rows[0].id != rows[1].id


async def test_an_adopted_version_becomes_the_current_one(stage: Stage) -> None:
    await stage.create()
    before = await stage.watch()
    after = await stage.store.commit_decision(before, adoption(before, 2, when=at(1)), now=at(1))
    assert after == await stage.watch()
    assert [item.version for item in after.versions] == [version(1), version(2)]
    assert after.adopted == {version(1), version(2)}
    current = after.current_version
    assert (current.version, current.created, current.probe) == (version(2), at(1), probe(2))
    assert current.verdict.number == 1


async def test_adoption_moves_no_account_by_itself(stage: Stage) -> None:
    account = await stage.create()
    await stage.store.commit_decision(await stage.watch(), adoption(await stage.watch(), 2), now=at(1))
    assert await stage.store.follow(limit=10, now=at(2)) == 0
    assert await stage.store.account(account.id) == account


async def test_a_decision_on_a_watch_that_changed_meanwhile_is_refused(stage: Stage) -> None:
    await stage.create()
    old = await stage.watch()
    await stage.store.commit_decision(old, decision(old), now=at(1))
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.commit_decision(old, adoption(old, 2), now=at(2))
    assert await stage.contents() == before


async def test_a_decision_under_an_old_epoch_is_refused(stage: Stage) -> None:
    await stage.create()
    old = await stage.watch()
    await stage.store.claim_vaults("another")
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.commit_decision(old, decision(old, **denial()), now=at(2))
    assert await stage.contents() == before


async def test_a_decision_on_a_watch_that_is_gone_is_refused(stage: Stage) -> None:
    account = await stage.create()
    old = await stage.watch()
    await stage.store.delete_account(account.id, now=at(1))
    with pytest.raises(StaleError):
        await stage.store.commit_decision(old, decision(old), now=at(2))


async def test_a_watch_made_again_is_not_mistaken_for_the_old_one(stage: Stage) -> None:
    account = await stage.create()
    old = await stage.watch()
    await stage.store.delete_account(account.id, now=at(1))
    await stage.create()
    assert (await stage.watch()).id != old.id
    with pytest.raises(StaleError):
        await stage.store.commit_decision(old, decision(old, **denial()), now=at(2))


async def test_times_of_other_zones_are_the_same_times(stage: Stage) -> None:
    await stage.create()
    elsewhere = START.astimezone(timezone(timedelta(hours=5, minutes=30)))
    await stage.store.commit_decision(
        await stage.watch(), decision(await stage.watch(), **denial(when=elsewhere)), now=elsewhere
    )
    verdict = (await stage.watch()).current_version.verdict
    assert (verdict.outcome, verdict.reason, verdict.since) == (Outcome.DENIED, Reason.ACCESS_DENIED, START)


async def test_a_time_without_zone_is_refused(stage: Stage) -> None:
    await stage.create()
    before = await stage.contents()
    with pytest.raises(Exception, match="without a zone"):
        await stage.store.commit_decision(
            await stage.watch(), decision(await stage.watch(), due=START.replace(tzinfo=None)), now=at(1)
        )
    assert await stage.contents() == before
