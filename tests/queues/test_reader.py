"""The reader of a queue: what it deletes and when, what it does with poison, how little trouble of a queue matters."""

import asyncio
import json
import tracemalloc
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.ports.queues import QueuedMessage, QueueTrouble, QueueUnavailableError
from byokd.runtime.queue_reader import BACKOFF_MOST, CALL, MOST_TOLD
from queues.platform import encoded, event
from queues.reading import Desk, reading
from queues.simulated import Mishap, SimulatedQueue, now
from virtual.world import MINUTE, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

SECRET = "what somebody wrote, for nobody's log"
RUBBISH = (
    "",
    SECRET,
    "{",
    "[",
    "[]",
    "[1]",
    "{}x",
    "null",
    "W10=",
    "b64?",
    "[" * 40_000,
    "\ufeff",
    '"text"',
    "IntdIg==",
)
NAMES = st.sampled_from(["k1", "k2", "k3", "k4", "nobodys"])


def written(number: int, key: str, form: int) -> str:
    """A message in one of the forms that there are."""
    one = event(f"event-{number}", key=key, cloud=form in {2, 3})
    document: Any = [one] if form % 2 else one
    return encoded(document) if form < 4 else json.dumps(document)


@st.composite
def texts(draw: st.DrawFn) -> list[tuple[str, str | None]]:
    """Messages, each with the key that it names, or None for rubbish."""
    good = st.tuples(NAMES, st.integers(0, 5))
    drawn = draw(st.lists(st.one_of(good, st.sampled_from(RUBBISH)), max_size=12))
    return [
        (one, None) if isinstance(one, str) else (written(number, *one), one[0]) for number, one in enumerate(drawn)
    ]


MISHAPS: st.SearchStrategy[list[Mishap]] = st.lists(
    st.sampled_from((None, None, "before", "after", "hang")), max_size=30
)


@given(
    texts(),
    MISHAPS,
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([1, 2, 600]),
    st.sampled_from([None, "poison"]),
)
def test_a_message_is_never_deleted_before_its_hint_was_taken_and_none_stays_for_ever(
    messages: list[tuple[str, str | None]],
    mishaps: list[Mishap],
    batch: int,
    tries: int,
    budget: int,
    aside: str | None,
) -> None:
    keys: dict[str, str | None] = {}

    async def scenario() -> Desk:
        queue = SimulatedQueue(batch=batch, visibility=30.0, mishaps=iter(mishaps))
        for text, key in messages:
            keys[queue.write(text)] = key
        settings = {"max_tries": tries, "hints_per_minute": budget, "poison_queue": aside, "poll_interval": "20 s"}
        async with reading(queue, **settings) as desk:

            def deleting(message: QueuedMessage) -> None:
                key = keys[message.id]
                if key is None:
                    assert message.tries >= tries
                    assert aside is None or message.text in queue.aside or message.tries >= 2 * tries
                elif key != "nobodys":
                    assert int(key[1:]) in desk.looking.hinted

            queue.on_delete = deleting  # type: ignore[method-assign]
            await asyncio.sleep(75 * MINUTE)
        return desk

    desk = virtually(scenario())
    assert desk.queue.messages == {}
    assert {f"k{number}" for number in desk.looking.hinted} == {key for key in keys.values() if key and key[0] == "k"}
    assert SECRET not in str(desk.logs)


@given(st.permutations([True] * 12 + [False] * 12), st.integers(1, 8))
def test_a_poison_message_never_blocks_others(order: Sequence[bool], batch: int) -> None:
    async def scenario() -> tuple[float, Desk]:
        queue = SimulatedQueue(batch=batch)
        for number, good in enumerate(order):
            queue.write(written(number, f"k{number}", number % 6) if good else RUBBISH[number % len(RUBBISH)])
        async with reading(queue, poison_queue="poison", poll_interval="20 s") as desk:
            await asyncio.sleep(20 * MINUTE)
        return max(at for times in desk.looking.hinted.values() for at in times), desk

    last, desk = virtually(scenario())
    assert len(desk.looking.hinted) == 12
    # A full batch is followed by the next at once: so much later for each of them, at most.
    assert last < 0.2 * (len(order) / batch + 1)
    assert (desk.queue.messages, len(desk.queue.aside)) == ({}, 12)
    assert desk.fates() == {"taken": 12, "unreadable": 4 * 12, "set-aside": 12}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 32), st.integers(1, 30))
def test_what_a_source_asks_for_beyond_its_budget_is_left_and_never_poison(
    bursts: list[int], batch: int, budget: int
) -> None:
    numbers = count(1)

    async def scenario() -> Desk:
        queue = SimulatedQueue(batch=batch, visibility=5.0)
        async with reading(queue, max_tries=1, hints_per_minute=budget, poll_interval="5 s") as desk:
            for size in bursts:
                for number in (next(numbers) for _ in range(size)):
                    queue.write(written(number, f"k{number}", number % 6))
                await asyncio.sleep(10)
            await asyncio.sleep(sum(bursts) / budget * MINUTE + 5 * MINUTE)
        return desk

    desk = virtually(scenario())
    assert (desk.queue.messages, desk.queue.aside) == ({}, [])
    assert desk.fates()["taken"] == len(desk.looking.hinted) == sum(bursts)
    taken = sorted(at for times in desk.looking.hinted.values() for at in times)
    for begun in taken:
        assert sum(begun <= at <= begun + MINUTE for at in taken) <= 2 * budget


class Flood(SimulatedQueue):
    """Always another batch of messages that nobody has seen, each as long as there are."""

    async def _receive(self) -> Sequence[QueuedMessage]:
        await asyncio.sleep(0.01)
        self.received.append((now(), self.batch))
        numbers = [next(self._numbers) for _ in range(self.batch)]
        padded = [event(number, key="x" * 100) | {"padding": "x" * 30_000} for number in numbers]
        return [QueuedMessage(str(at), "", encoded(one), 1) for at, one in zip(numbers, padded, strict=True)]


async def test_a_flood_costs_bounded_memory_and_a_bounded_share_of_the_processor() -> None:
    queue = Flood(batch=16)
    async with reading(queue, hints_per_minute=1_000_000) as desk:
        await asyncio.sleep(1)
        tracemalloc.start()
        try:
            await asyncio.sleep(3)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # A batch, its documents, and what is remembered of events.
        assert peak < 6_000_000
        assert len(queue.received) <= 4 / 0.1
        assert desk.fates()["taken"] > 400


async def test_an_empty_queue_is_looked_at_every_poll_interval_and_a_full_batch_followed_by_the_next() -> None:
    queue = SimulatedQueue(batch=2)
    for number in range(5):
        queue.write(written(number, f"k{number}", 0))
    async with reading(queue, poll_interval="2 s") as desk:
        await asyncio.sleep(5.5)
    assert [size for _, size in queue.received] == [2, 2, 1, 0, 0]
    waits = [round(later[0] - sooner[0], 1) for sooner, later in zip(queue.received, queue.received[1:], strict=False)]
    assert waits == [0.1, 0.1, 2.0, 2.0]
    assert desk.fates() == {"taken": 5}


async def test_before_it_is_known_what_is_watched_nothing_is_taken_out() -> None:
    queue = SimulatedQueue()
    queue.write(written(1, "k1", 0))
    async with reading(queue, run=False) as desk:
        desk.looking.knows_watches = False
        task = asyncio.create_task(desk.reader.run())
        await asyncio.sleep(MINUTE)
        assert (queue.received, desk.looking.hinted) == ([], {})
        desk.looking.knows_watches = True
        await asyncio.sleep(1)
        assert (queue.messages, list(desk.looking.hinted)) == ({}, [1])
        await desk.reader.stop()
        task.cancel()


async def test_trouble_is_told_once_with_what_to_do_waits_longer_and_ends_by_itself() -> None:
    queue = SimulatedQueue(
        trouble=QueueUnavailableError(QueueTrouble.NOT_PERMITTED, code="AuthorizationPermissionMismatch")
    )
    queue.write(written(1, "k1", 0))
    async with reading(queue) as desk:
        await asyncio.sleep(10 * MINUTE)
        (line,) = desk.told("queue-in-trouble")
        assert (line["source"], line["why"]) == ("customers", "not-permitted")
        assert "AuthorizationPermissionMismatch" in line["message"]
        assert "Storage Queue Data Message Processor" in line["hint"]
        assert not desk.condition.well
        assert desk.condition.message == f"the queue of customers: {line['message']}"
        assert desk.condition.hint is not None
        assert desk.condition.hint.endswith("polling goes on")
        assert 12 <= desk.failures()["not-permitted"] <= 25
        assert desk.metrics.registry.get_sample_value("byokd_queues_in_trouble") == 1
        queue.trouble = QueueUnavailableError(QueueTrouble.MISSING, code="QueueNotFound")
        await asyncio.sleep(2 * MINUTE)
        assert [one["why"] for one in desk.told("queue-in-trouble")] == ["not-permitted", "missing"]
        queue.trouble = None
        await asyncio.sleep(BACKOFF_MOST.total_seconds())
        assert (len(desk.told("queue-recovered")), desk.condition.well) == (1, True)
        assert desk.metrics.registry.get_sample_value("byokd_queues_in_trouble") == 0
        assert desk.fates() == {"taken": 1}


async def test_one_failure_alone_is_counted_and_no_news() -> None:
    async with reading(SimulatedQueue(mishaps=iter(["before", None, "after", None]))) as desk:
        await asyncio.sleep(MINUTE)
        assert (desk.failures(), desk.logs, desk.condition.well) == ({"failed": 1, "unreachable": 1}, [], True)


async def test_the_service_may_ask_for_a_longer_wait_but_not_for_ever() -> None:
    queue = SimulatedQueue(trouble=QueueUnavailableError(QueueTrouble.THROTTLED, retry_after=17.0))
    async with reading(queue) as desk:
        await asyncio.sleep(18)
        assert desk.failures() == {"throttled": 2}
        queue.trouble = QueueUnavailableError(QueueTrouble.THROTTLED, retry_after=999_999.0)
        await asyncio.sleep(18 + 5 * BACKOFF_MOST.total_seconds())
        assert desk.failures()["throttled"] >= 6


async def test_a_queue_that_hangs_is_given_up_and_holds_nobody_up() -> None:
    queue = SimulatedQueue(mishaps=iter(["hang", "hang"]))
    queue.write(written(1, "k1", 0))
    async with reading(queue) as desk:
        await asyncio.sleep(2 * CALL.total_seconds() + 10)
        assert [line["why"] for line in desk.told("queue-in-trouble")] == ["timed-out"]
        assert desk.looking.hinted.keys() == {1}


@pytest.mark.parametrize("mishap", ["before", "after"])
async def test_a_hint_is_taken_once_although_its_message_could_not_be_deleted(mishap: Mishap) -> None:
    queue = SimulatedQueue(mishaps=iter([None, mishap]))
    queue.write(written(1, "k1", 0))
    async with reading(queue) as desk:
        await asyncio.sleep(3 * MINUTE)
        assert (len(desk.looking.hinted[1]), queue.messages) == (1, {})
        assert desk.failures() == {"failed" if mishap == "before" else "unreachable": 1}


async def test_poison_is_named_by_its_id_and_why_and_dropped_where_there_is_no_queue_for_it() -> None:
    queue = SimulatedQueue()
    name = queue.write(SECRET)
    async with reading(queue, max_tries=3) as desk:
        await asyncio.sleep(5 * MINUTE)
        (line,) = desk.told("message-dropped")
        assert (line["source"], line["message"], line["why"], line["tries"]) == ("customers", name, "unreadable", 3)
        assert desk.fates() == {"unreadable": 2, "dropped": 1}
        assert SECRET not in str(desk.logs)


async def test_a_poison_queue_that_fails_is_tried_as_often_again_and_is_no_trouble_of_the_queue_itself() -> None:
    missing = QueueUnavailableError(QueueTrouble.MISSING, code="QueueNotFound")
    queue = SimulatedQueue(aside_trouble=missing)
    name = queue.write(SECRET)
    async with reading(queue, max_tries=2, poison_queue="poison") as desk:
        await asyncio.sleep(10 * MINUTE)
        told = desk.told("message-not-set-aside")
        assert [(line["message"], line["trouble"]) for line in told] == [(name, "missing (QueueNotFound)")] * 3
        assert [line["tries"] for line in desk.told("message-dropped")] == [4]
        assert desk.fates() == {"unreadable": 3, "dropped": 1}
        assert (desk.failures(), desk.condition.well) == ({"missing": 3}, True)
        assert SECRET not in str(desk.logs)


async def test_a_defect_of_ours_ends_no_daemon_and_holds_up_no_other_message() -> None:
    queue = SimulatedQueue()
    queue.write(written(1, "broken", 0))
    queue.write(written(2, "k2", 0))
    async with reading(queue, max_tries=2) as desk:
        desk.looking.broken = True
        await asyncio.sleep(3 * MINUTE)
        assert desk.looking.hinted.keys() == {2}
        assert [line["error"] for line in desk.told("message-broke-off")] == ["KeyError", "KeyError"]
        assert [line["why"] for line in desk.told("message-dropped")] == ["broke-off"]


async def test_whoever_floods_a_queue_with_rubbish_does_not_fill_the_disk() -> None:
    queue = SimulatedQueue(batch=32)
    for _ in range(1000):
        queue.write(SECRET)
    async with reading(queue, max_tries=1) as desk:
        await asyncio.sleep(50)
        assert desk.fates() == {"dropped": 1000}
        assert len(desk.logs) == MOST_TOLD
        await asyncio.sleep(20)
        queue.write(SECRET)
        await asyncio.sleep(5)
        assert len(desk.logs) == MOST_TOLD + 1


async def test_a_stop_waits_for_what_is_at_hand_and_for_nothing_else() -> None:
    queue = SimulatedQueue(mishaps=iter([None, None, "hang"]))
    queue.write(written(1, "k1", 0))
    async with reading(queue) as desk:
        await asyncio.sleep(0.03)
        assert (queue.deleted, list(desk.looking.hinted)) == ([], [1])
        await desk.reader.stop()
        assert (len(queue.deleted), round(now(), 2)) == (1, 0.04)
    queue = SimulatedQueue()
    async with reading(queue) as desk:
        await asyncio.sleep(0.01)
        queue.write(written(2, "k2", 0))
        begun = now()
        await desk.reader.stop()
        assert now() == begun
        await asyncio.sleep(MINUTE)
        # Received when it was time to stop: left, for whoever reads next.
        assert (len(queue.received), queue.deleted, desk.looking.hinted) == (1, [], {})
