from dataclasses import replace

import pytest

from byokd.domain.accounts import AccountEvent, follow
from byokd.domain.vocabulary import DetectedBy, EventType, Reason, State
from store.builders import (
    KEY,
    Stage,
    account_id,
    at,
    commit_rewrap,
    decision,
    denial,
    sealed,
    suspicion,
    unverified,
    usability,
    version,
)

PINNED = KEY.at(version(1))


async def test_a_denial_reaches_the_accounts_of_its_version(stage: Stage) -> None:
    accounts = [await stage.create(number) for number in (1, 2)]
    apart = await stage.create(3, key=PINNED)
    watch = await stage.decide(**denial(Reason.KEY_DISABLED, when=at(1)), detected_by=DetectedBy.HINT)
    assert await stage.store.follow(limit=10, now=at(2)) == 2
    verdict = watch.current_version.verdict
    for before, row in zip(accounts, (await stage.history())[3:], strict=True):
        after = await stage.store.account(before.id)
        expected, types = follow(before, verdict)
        assert after == replace(expected, sequence=2, updated_at=at(2))
        assert (after.state, after.reason, after.since) == (State.INACCESSIBLE, Reason.KEY_DISABLED, at(1))
        event = AccountEvent(
            types[0],
            after,
            previous_state=State.ACCESSIBLE,
            detected_by=DetectedBy.HINT,
            observed_at=verdict.observed_at,
            detail={},
        )
        assert (row.type, row.data, row.time) == (EventType.ACCOUNT_INACCESSIBLE, event.data(), at(2))
        assert (row.stream, row.retained) == (before.id.topic, "set")
        assert (row.account, row.incarnation, row.sequence) == (str(before.id), before.incarnation, 2)
    assert await stage.store.account(apart.id) == apart
    assert await stage.store.follow(limit=10, now=at(3)) == 0


async def test_several_events_of_one_verdict_have_sequences_of_their_own(stage: Stage) -> None:
    account = await stage.create()
    await stage.decide(**denial(), **unverified(when=at(1)))
    assert await stage.store.follow(limit=10, now=at(2)) == 1
    after = await stage.store.account(account.id)
    rows = (await stage.history())[1:]
    assert [row.type for row in rows] == [EventType.ACCOUNT_UNVERIFIED, EventType.ACCOUNT_INACCESSIBLE]
    assert [row.sequence for row in rows] == [row.data["sequence"] for row in rows] == [2, 3]
    assert after.sequence == 3
    assert [row.data["previousState"] for row in rows] == [None, State.ACCESSIBLE]
    assert all(row.data["state"] == State.INACCESSIBLE for row in rows)
    assert all(row.data["unverifiedSince"] is not None for row in rows)


async def test_a_verdict_that_changes_nothing_for_the_account_makes_no_event(stage: Stage) -> None:
    account = await stage.create()
    watch = await stage.decide(**usability(when=at(1)))
    assert await stage.store.follow(limit=10, now=at(2)) == 1
    assert await stage.store.account(account.id) == replace(account, followed=watch.current_version.verdict.number)
    assert len(await stage.history()) == 1


async def test_a_suspicion_is_nothing_to_follow(stage: Stage) -> None:
    await stage.create()
    await stage.decide(**suspicion(await stage.watch()))
    assert await stage.store.follow(limit=10, now=at(2)) == 0


async def test_a_carry_is_bounded_and_resumes(stage: Stage) -> None:
    for number in range(1, 8):
        await stage.create(number)
    await stage.decide(**denial())
    assert [await stage.store.follow(limit=3, now=at(2)) for _ in range(4)] == [3, 3, 1, 0]
    assert all(account.state is State.INACCESSIBLE for account in await stage.store.accounts())


@pytest.mark.parametrize("limit", [1, 2])
async def test_the_carry_goes_by_verdict_number_and_then_by_account(stage: Stage, limit: int) -> None:
    await stage.create(2)
    await stage.create(1)
    await stage.create(3, key=PINNED)
    await stage.decide(**usability())
    await stage.decide(**denial())
    await stage.decide(PINNED, **denial())
    while await stage.store.follow(limit=limit, now=at(2)):
        pass
    carried = [row.stream for row in await stage.store.unpublished(after=3, limit=10)]
    assert carried == [account_id(number).topic for number in (3, 1, 2)]


async def test_versions_without_accounts_do_not_hide_those_with_some(stage: Stage) -> None:
    await stage.create(1)
    await stage.create(2, key=PINNED)
    await stage.adopt(2)
    await commit_rewrap(stage.store, await stage.work(), sealed(b"sealed wrap 2"), now=at(1))
    watch = await stage.watch()
    left = replace(watch, current=watch.versions[0].id)
    await stage.store.commit_decision(watch, decision(left, **denial()), now=at(1))
    await stage.decide(PINNED, **denial())
    assert await stage.store.follow(limit=1, now=at(2)) == 1
    assert await stage.store.follow(limit=1, now=at(2)) == 0


async def test_changes_that_were_missed_are_one_change(stage: Stage) -> None:
    account = await stage.create()
    await stage.decide(**denial())
    await stage.decide(**usability())
    assert await stage.store.follow(limit=10, now=at(2)) == 1
    assert (await stage.store.account(account.id)).state is State.ACCESSIBLE
    assert len(await stage.history()) == 1


async def test_access_comes_back(stage: Stage) -> None:
    account = await stage.create()
    await stage.decide(**denial(), **unverified(when=at(1)))
    await stage.store.follow(limit=10, now=at(2))
    await stage.decide(**usability(when=at(3)), unverified=None)
    await stage.store.follow(limit=10, now=at(4))
    after = await stage.store.account(account.id)
    assert (after.state, after.reason, after.since, after.unverified_since) == (
        State.ACCESSIBLE,
        None,
        at(3),
        None,
    )
    told = [(row.type, row.data["previousState"]) for row in await stage.history()]
    assert told[-2:] == [(EventType.ACCOUNT_VERIFIED, None), (EventType.ACCOUNT_ACCESSIBLE, State.INACCESSIBLE)]


async def test_another_reason_changes_no_state(stage: Stage) -> None:
    await stage.create()
    for reason in (Reason.ACCESS_DENIED, Reason.KEY_DISABLED):
        await stage.decide(**denial(reason))
        await stage.store.follow(limit=10, now=at(2))
    told = [(row.type, row.data["previousState"]) for row in (await stage.history())[1:]]
    assert told == [(EventType.ACCOUNT_INACCESSIBLE, State.ACCESSIBLE), (EventType.ACCOUNT_INACCESSIBLE, None)]
