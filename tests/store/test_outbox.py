from datetime import datetime

import pytest
from sqlalchemy import select

from byokd.adapters.sql.columns import encode_document
from byokd.adapters.sql.tables import events
from byokd.domain.vocabulary import EventType
from byokd.ports import StaleError
from byokd.records import OutboxRow, Retained
from store.builders import KEY, START, Stage, account_id, at, denial, usability


async def test_what_was_committed_waits_to_be_published(stage: Stage) -> None:
    account = await stage.create()
    (row,) = await stage.store.unpublished(after=0, limit=10)
    (stored,) = await stage.history()
    assert row == OutboxRow(
        number=1,
        id="00000000-0000-0000-0000-000000000001",
        stream=account.id.topic,
        type=EventType.ACCOUNT_CREATED,
        time=START,
        document=encode_document(stored.data),
        retained=Retained.SET,
    )


async def test_events_come_in_the_order_of_their_commitment(stage: Stage) -> None:
    for number in (3, 1, 2):
        await stage.create(number)
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(2))
    rows = await stage.store.unpublished(after=0, limit=10)
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.stream for row in rows] == [account_id(number).topic for number in (3, 1, 2, 1, 2, 3)]
    assert [row.number for row in await stage.store.unpublished(after=2, limit=3)] == [3, 4, 5]
    assert await stage.store.unpublished(after=6, limit=10) == []


async def test_published_events_are_not_given_again(stage: Stage) -> None:
    for number in (1, 2, 3):
        await stage.create(number)
    await stage.store.mark_published([3, 1], now=at(1))
    assert [row.number for row in await stage.store.unpublished(after=0, limit=10)] == [2]


async def test_marking_twice_keeps_the_first_time(stage: Stage) -> None:
    for number in (1, 2):
        await stage.create(number)
    await stage.store.mark_published([1], now=at(1))
    await stage.store.mark_published([2, 1, 2], now=at(2))
    marked = await stage.rows(select(events.c.published_at).order_by(events.c.number))
    assert marked == [(at(1),), (at(2),)]


async def test_marking_what_does_not_exist_marks_nothing(stage: Stage) -> None:
    await stage.create()
    with pytest.raises(StaleError):
        await stage.store.mark_published([1, 2], now=at(1))
    assert len(await stage.store.unpublished(after=0, limit=10)) == 1


async def test_more_numbers_than_one_statement_holds(stage: Stage) -> None:
    for number in range(1, 502):
        await stage.create(number, key=None)
    await stage.store.mark_published(range(1, 502), now=at(1))
    assert await stage.store.unpublished(after=0, limit=1000) == []
    await stage.store.mark_published([], now=at(1))


async def test_numbers_are_never_given_twice(stage: Stage) -> None:
    await stage.create(key=KEY)
    await stage.store._runner.write(lambda connection: connection.execute(events.delete()))
    await stage.create(2)
    assert [row.number for row in await stage.store.unpublished(after=0, limit=10)] == [2]


async def test_published_events_are_forgotten_when_they_are_old(stage: Stage) -> None:
    for number in range(1, 6):
        await stage.create(number)
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(2))
    await stage.store.mark_published([1, 2, 4, 5, 6, 7], now=at(3))
    assert await stage.store.forget(before=START, limit=10) == 0
    assert [await stage.store.forget(before=at(2), limit=3) for _ in range(3)] == [3, 1, 0]
    assert [row.number for row in await stage.history()] == [3, 6, 7, 8, 9, 10]
    assert [row.number for row in await stage.store.unpublished(after=0, limit=10)] == [3, 8, 9, 10]


async def test_the_oldest_events_are_forgotten_first(stage: Stage) -> None:
    for number in range(1, 5):
        await stage.create(number)
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(2))
    await stage.store.mark_published(range(1, 9), now=at(3))
    assert await stage.store.forget(before=at(1), limit=2) == 2
    assert [row.number for row in await stage.history()] == [3, 4, 5, 6, 7, 8]


async def test_the_last_event_of_an_account_stays_while_it_exists_and_the_last_of_all_for_ever(stage: Stage) -> None:
    for number in (1, 2):
        await stage.create(number)
    await stage.store.delete_account(account_id(1), now=at(1))
    await stage.store.mark_published([1, 2, 3], now=at(2))
    assert await stage.store.forget(before=at(60), limit=10) == 1
    assert [row.number for row in await stage.history()] == [2, 3]


async def test_all_up_to_the_first_unpublished_event_is_contiguous(stage: Stage) -> None:
    assert await stage.store.contiguous() == 0
    for number in (1, 2, 3):
        await stage.create(number)
    assert await stage.store.contiguous() == 0
    await stage.store.mark_published([1, 3], now=at(1))
    assert await stage.store.contiguous() == 1
    await stage.store.mark_published([2], now=at(1))
    assert await stage.store.contiguous() == 3


@pytest.mark.parametrize(
    ("after", "since", "again"),
    [
        (None, at(60), [5, 6, 7]),
        (8, START, [5, 6, 7]),
        (7, START, []),
        (4, START, [5, 6, 7]),
        (3, at(60), [5, 6, 7]),
        (1, at(60), [5, 6, 7]),
        (1, at(2), [4, 5, 6, 7]),
        (1, START, [2, 3, 4, 5, 6, 7]),
        (0, at(60), [5, 6, 7]),
    ],
)
async def test_what_the_broker_lost_is_sent_again(
    stage: Stage, after: int | None, since: datetime, again: list[int]
) -> None:
    for number in (1, 2, 3):
        await stage.create(number)
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(2))
    await stage.store.delete_account(account_id(1), now=at(2))
    await stage.store.mark_published(range(1, 8), now=at(3))
    assert await stage.store.resend(after=after, since=since) == len(again)
    assert [row.number for row in await stage.store.unpublished(after=0, limit=10)] == again
    assert await stage.store.resend(after=after, since=since) == 0


async def test_unpublished_events_are_never_forgotten(stage: Stage) -> None:
    await stage.create()
    assert await stage.store.forget(before=at(60 * 24 * 3650), limit=10) == 0
    assert len(await stage.history()) == 1


async def test_forgotten_numbers_and_sequences_do_not_come_again(stage: Stage) -> None:
    await stage.create()
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(2))
    await stage.store.mark_published([1, 2], now=at(3))
    assert await stage.store.forget(before=at(60), limit=10) == 1
    await stage.decide(**usability())
    await stage.store.follow(limit=10, now=at(4))
    assert [(row.number, row.sequence) for row in await stage.history()] == [(2, 2), (3, 3)]
