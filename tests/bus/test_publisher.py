"""Events from the store to subscribers, through crashes and refusals."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bus.support import PREFIX, UnreliableStore, bus, commit, left, message, publisher, row, running
from byokd.adapters.sql import SqlStore
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import AccountId
from byokd.records import KeyPlacement, Retained, SealedKey
from byokd.runtime import outbox, refusals
from byokd.runtime import publisher as publishing
from byokd.runtime.clock import SystemClock
from byokd.runtime.marker import number_of
from parts.mosquitto import Mosquitto, mosquitto, password_file
from parts.subscriber import Heard, Subscriber, subscriber
from parts.waiting import eventually, until

SOON = timedelta(seconds=15)
MARKER = f"{PREFIX}/service/marker"


def numbers(heard: list[Heard]) -> list[int]:
    return [int(one.event["data"]["sequence"]) for one in heard]


async def test_events_arrive_in_order_per_stream_and_the_retained_state_is_the_last(
    broker: str, store: SqlStore
) -> None:
    streams = [f"accounts/{name}" for name in "abcdefgh"]
    for sequence in range(30):
        await commit(store, *(row(stream, sequence=sequence) for stream in streams))
    sending = publisher(store, broker)
    async with subscriber(broker) as heard, running(sending):
        assert await sending.drain(within=SOON)
        for stream in streams:
            assert numbers(await heard.hears(f"{PREFIX}/{stream}/events", times=30)) == list(range(30))
    async with subscriber(broker) as latecomer:
        for stream in streams:
            (state,) = await latecomer.hears(f"{PREFIX}/{stream}/state")
            assert (state.retained, numbers([state])) == (True, [29])
    assert await left(store) == []
    assert sending.status.link.connected is False


async def test_a_deleted_stream_keeps_no_state(broker: str, store: SqlStore) -> None:
    await commit(store, row(sequence=1), row(sequence=2, retained=Retained.CLEAR), row("accounts/b", sequence=1))
    sending = publisher(store, broker)
    async with running(sending):
        assert await sending.drain(within=SOON)
    async with subscriber(broker) as heard:
        await heard.hears(f"{PREFIX}/accounts/b/state")
        assert not heard.on(f"{PREFIX}/accounts/a/state")


async def test_a_committed_event_is_sent_when_nobody_told(broker: str, store: SqlStore) -> None:
    async with subscriber(broker) as heard, running(publisher(store, broker)):
        await commit(store, row(sequence=1))
        await heard.hears(f"{PREFIX}/accounts/a/events")
        await commit(store, row(sequence=2))
        await heard.hears(f"{PREFIX}/accounts/a/events", times=2)


@pytest.mark.real("mosquitto")
async def test_news_and_losses_are_noticed_without_waiting_for_the_next_look(
    killable: Mosquitto, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "POLL", timedelta(hours=1))
    sending = publisher(store, killable.address)
    async with subscriber(killable.address) as heard, running(sending):
        assert await sending.drain(within=SOON)
        await commit(store, row(sequence=1))
        sending.notify()
        await heard.hears(f"{PREFIX}/accounts/a/events")
        await killable.kill()
        await until(lambda: not sending.status.link.connected)


@pytest.mark.real("mosquitto")
async def test_nothing_is_lost_or_out_of_order_over_kills_of_the_broker(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAGE_ROWS", 100)
    streams = [f"accounts/{number}" for number in range(20)]
    passwords = await password_file(tmp_path, byokd="right", reader="reader")
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    sequences: dict[str, list[int]] = defaultdict(list)
    paused = asyncio.Event()

    def pause(_count: int) -> None:
        # After the first of several pages, so that there is more to come when it is killed.
        if turn < 3:
            broker.hang()
            paused.set()

    lines = ("max_queued_messages 0", "allow_anonymous false", f"password_file {passwords}")
    async with mosquitto(tmp_path / "mosquitto", *lines) as broker:
        sending = publisher(store, broker.address, on_published=pause, username="byokd", password_file=secret)
        async with running(sending):
            for turn in range(4):
                drafts = [row(name, sequence=turn * 100 + step) for step in range(20) for name in streams]
                await commit(store, *drafts)
                owed = set(await left(store))
                async with subscriber(broker.address, username="reader", password="reader") as heard:
                    # Only now may byokd connect: what it sends must not come before its only listener.
                    paused.clear()
                    secret.write_text("right")
                    if turn == 3:
                        await heard.until(partial(all_heard, heard, owed))
                    else:
                        await paused.wait()
                        secret.write_text("wrong")
                        broker.wake()
                        await broker.kill()
                        await until(lambda: not sending.status.link.connected)
                        assert await left(store), "it was killed too late to show anything"
                        await broker.start()
                for one in heard.heard:
                    if one.topic == MARKER:
                        continue
                    sequences[one.topic] += numbers([one])
    for stream in streams:
        for topic in (f"{PREFIX}/{stream}/events", f"{PREFIX}/{stream}/state"):
            in_order_of_first = list(dict.fromkeys(sequences[topic]))
            assert in_order_of_first == sorted(in_order_of_first)
            assert sequences[topic][-1] == 319


def all_heard(heard: Subscriber, owed: set[str]) -> bool:
    if len(heard.heard) < 2 * len(owed):
        return False  # asked after each message: to look at all that came is for when it may be enough
    by_kind = defaultdict(set)
    for one in heard.heard:
        if one.topic != MARKER:
            by_kind[one.topic.rpartition("/")[2]].add(one.event["id"])
    return owed <= by_kind["events"] & by_kind["state"]


@pytest.mark.real("mosquitto")
async def test_a_refused_stream_is_kept_and_holds_back_only_itself(tmp_path: Path, store: SqlStore) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic readwrite {PREFIX}/accounts/b/#\ntopic readwrite {PREFIX}/accounts/a/events\n")
    drafts = [row(f"accounts/{name}", sequence=step) for step in range(5) for name in "ab"]
    kept = {draft.id for draft in drafts if draft.stream == "accounts/a"}
    await commit(store, *drafts)
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        sending = publisher(store, broker.address)
        with capture_logs() as logs:
            async with subscriber(broker.address) as heard, running(sending):
                await heard.hears(f"{PREFIX}/accounts/b/state", times=5)
                await until(lambda: bool(sending.status.refused))
                assert sending.status.refused == {f"{PREFIX}/accounts/a/state": "Not authorized"}
                assert not await sending.drain(within=timedelta(milliseconds=500))
                await commit(store, row("accounts/b", sequence=5))
                await heard.hears(f"{PREFIX}/accounts/b/state", times=6)
                assert numbers(heard.on(f"{PREFIX}/accounts/a/events")) == [0], "what was accepted is not sent again"
                assert kept <= set(await left(store))
                rules.write_text(f"topic readwrite {PREFIX}/#\n")
                broker.reload()
                assert numbers(await heard.hears(f"{PREFIX}/accounts/a/state", times=5)) == list(range(5))
                assert await sending.drain(within=SOON)
                assert numbers(heard.on(f"{PREFIX}/accounts/a/events")) == list(range(5))
                assert sending.status.refused == {}
    said = [log["event"] for log in logs]
    assert (said.count("message-refused"), said.count("message-accepted")) == (1, 1)


@pytest.mark.real("mosquitto")
async def test_when_everything_is_refused_little_is_remembered_and_order_is_kept(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MOST_STREAMS", 3)
    monkeypatch.setattr(outbox, "PAGE_ROWS", 4)
    rules = tmp_path / "acl"
    rules.write_text(f"topic read {PREFIX}/#\n")
    streams = [f"accounts/{name}" for name in "abcdefghij"]
    for step in range(4):
        await commit(store, *(row(name, sequence=step) for name in streams))
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        sending = publisher(store, broker.address)
        async with subscriber(broker.address) as heard, running(sending):
            await until(lambda: len(sending.status.refused) >= 3)
            assert not await sending.drain(within=timedelta(milliseconds=500))
            assert len(sending.status.refused) < 3 + 4
            rules.write_text(f"topic readwrite {PREFIX}/#\n")
            broker.reload()
            assert await sending.drain(within=SOON)
            for name in streams:
                assert numbers(await heard.hears(f"{PREFIX}/{name}/events", times=4)) == [0, 1, 2, 3]


@pytest.mark.real("mosquitto")
async def test_streams_that_had_to_wait_are_not_overtaken_by_their_own_news(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MOST_STREAMS", 3)
    monkeypatch.setattr(outbox, "PAGE_ROWS", 4)
    rules = tmp_path / "acl"
    rules.write_text(f"topic read {PREFIX}/#\n")
    await commit(store, *(row(f"accounts/{name}", sequence=0) for name in "abcdef"))
    counts: list[int] = []
    slow = {"reconnect_first": timedelta(seconds=1), "reconnect_most": timedelta(seconds=60)}
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        sending = publisher(store, broker.address, on_published=counts.append, **slow)
        async with subscriber(broker.address) as heard, running(sending):
            await until(lambda: len(sending.status.refused) >= 3)
            allowed = "".join(f"topic write {PREFIX}/accounts/{name}/#\n" for name in "bcdef")
            rules.write_text(f"topic read {PREFIX}/#\n{allowed}")
            broker.reload()
            await until(lambda: sum(counts) == 3)
            await commit(store, row("accounts/f", sequence=1))
            sending.notify()
            assert numbers(await heard.hears(f"{PREFIX}/accounts/f/events", times=2)) == [0, 1]


class HeldMarks(UnreliableStore):
    """The real store, where marking waits until it is let go."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__(store)
        self.may_mark = asyncio.Event()
        self.asked: list[int] = []

    async def mark_published(self, numbers: Sequence[int], *, now: datetime) -> None:
        self.asked.append(len(numbers))
        await self.may_mark.wait()
        await super().mark_published(numbers, now=now)


async def test_one_page_is_sent_beside_the_marking_of_another_and_no_more(
    broker: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAGE_ROWS", 4)
    held = HeldMarks(store)
    await commit(store, *(row(f"accounts/{number}", sequence=number) for number in range(14)))

    def events() -> int:
        return sum(one.topic.endswith("/events") for one in heard.heard)

    sending = publisher(held, broker)
    async with subscriber(broker) as heard, bus(broker).connect("other") as other, running(sending):
        await heard.until(lambda: events() == 8)
        for number in range(20):  # time in which a third page would come
            await other.publish(message(f"other/{number}"))
        await heard.hears("other/19")
        assert (events(), held.asked) == (8, [4])
        held.may_mark.set()
        assert await sending.drain(within=SOON)
        await heard.until(lambda: events() >= 14)  # acknowledged is not yet delivered
        assert (events(), sum(held.asked)) == (14, 14)
    assert await left(store) == []


async def of_accounts(store: SqlStore, *names: str) -> None:
    """Commit events of accounts that exist."""
    for number, name in enumerate(names):
        account = AccountId("00000000-0000-0000-0000-000000000001", "group", name)
        spec = AccountSpec(account, "00000000-0000-0000-0000-000000000002", "westeurope", None)
        placement = KeyPlacement(None, SealedKey(b"sealed", "1", "1"), None)
        await store.create_account(spec, placement, incarnation=f"life-{number}-{name}", now=SystemClock().now())


def states(heard: Subscriber) -> set[str]:
    return {one.topic.split("/")[-2] for one in heard.heard if one.topic.endswith("/state")}


def told_of(heard: Subscriber) -> list[str]:
    return [one.topic.split("/")[-2] for one in heard.heard if one.topic.endswith("/events")]


@pytest.mark.real("mosquitto")
async def test_a_broker_that_came_back_empty_gets_every_state_again(killable: Mosquitto, store: SqlStore) -> None:
    sending = publisher(store, killable.address)
    with capture_logs() as logs:
        async with running(sending):
            await of_accounts(store, "a", "b", "c")
            assert await sending.drain(within=SOON)
            await killable.kill()
            await until(lambda: not sending.status.link.connected)
            await killable.start()
            async with subscriber(killable.address) as heard:
                await heard.until(lambda: states(heard) == {"a", "b", "c"})
            await eventually(partial(marks, killable, store, 3))
    resent = [(log["count"], log["marker"]) for log in logs if log["event"] == "resent"]
    assert resent == [(3, None)]


@pytest.mark.real("mosquitto")
async def test_a_broker_that_came_back_as_it_was_gets_what_came_after(killable: Mosquitto, store: SqlStore) -> None:
    await of_accounts(store, "a", "b", "c")
    async with running(sending := publisher(store, killable.address)):
        assert await sending.drain(within=SOON)
    async with bus(killable.address).connect("past") as session:
        past = json.dumps({"store": await store.identity(), "number": 1})
        await session.publish(message(MARKER, past.encode(), retain=True))
    async with subscriber(killable.address) as heard, running(publisher(store, killable.address)):
        await eventually(partial(marks, killable, store, 3))
        await heard.until(lambda: len(told_of(heard)) >= 2)
        assert told_of(heard) == ["b", "c"]


async def test_a_broker_that_lost_nothing_gets_nothing_again(broker: str, store: SqlStore) -> None:
    await of_accounts(store, "a", "b")
    async with running(sending := publisher(store, broker)):
        assert await sending.drain(within=SOON)
    with capture_logs() as logs:
        async with subscriber(broker) as heard, running(sending := publisher(store, broker)):
            await heard.until(lambda: states(heard) == {"a", "b"})
            assert await sending.drain(within=SOON)
            assert not [one for one in heard.heard if one.topic.endswith("/events")]
    assert "resent" not in [log["event"] for log in logs]


async def marks(broker: Mosquitto, store: SqlStore, number: int) -> bool:
    async with bus(broker.address).connect("looker") as session:
        return number_of(await session.retained(MARKER), store=await store.identity()) == number


@pytest.mark.parametrize(
    "payload",
    [
        None,
        b"",
        b"{}",
        b"nonsense",
        b"[1]",
        b'{"store": "ours", "number": -1}',
        b'{"store": "ours", "number": true}',
        b'{"store": "theirs", "number": 1}',
        b'{"number": 1}',
    ],
)
def test_what_is_not_a_marker_of_ours_counts_as_none(payload: bytes | None) -> None:
    assert number_of(payload, store="ours") is None


def test_a_marker_of_ours_gives_its_number() -> None:
    assert number_of(b'{"store": "ours", "number": 1}', store="ours") == 1


async def test_an_unusable_store_is_waited_for_and_said_once(broker: str, store: SqlStore) -> None:
    unreliable = UnreliableStore(store)
    unreliable.usable = False
    await commit(store, row(sequence=1))
    sending = publisher(unreliable, broker)
    with capture_logs() as logs:
        async with subscriber(broker) as heard, running(sending):
            await until(lambda: unreliable.refusals > 1)
            assert sending.status.store_problem == "the disk is full"
            unreliable.usable = True
            await heard.hears(f"{PREFIX}/accounts/a/events")
            assert await sending.drain(within=SOON)
            assert sending.status.store_problem is None
    trouble = [log for log in logs if log["event"].startswith("outbox")]
    assert [log["event"] for log in trouble] == ["outbox-unusable", "outbox-usable"]
    assert trouble[0]["hint"] == "make room"
