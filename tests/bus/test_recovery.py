"""What a broker lost after acknowledging it: events and retained states, also of deleted accounts."""

import asyncio
import json
import shutil
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from bus.support import PREFIX, bus, commit, left, message, publisher, row, running
from byokd.adapters.sql import SqlStore, open_inline
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import AccountId, TenantId
from byokd.ports import BusRefusedError, BusSession, BusUnavailableError, Clock
from byokd.records import KeyPlacement, OutboxRow, Retained
from byokd.runtime import marker as marking
from byokd.runtime import outbox
from byokd.runtime.clock import SystemClock, SystemRandomness, UuidIds
from byokd.runtime.envelope import publisher_client_id
from byokd.runtime.health import Component, Health
from byokd.runtime.marker import Marker
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.outbox import Outbox
from byokd.runtime.publisher import Publisher, Republished
from parts.mosquitto import Mosquitto, mosquitto
from parts.subscriber import Subscriber, subscriber
from parts.waiting import until
from store.builders import auditor, sealed

pytestmark = pytest.mark.real("mosquitto")

SOON = timedelta(seconds=15)
MARKER = f"{PREFIX}/service/marker"
END = f"{PREFIX}/test/end"
CLOCK = SystemClock()


def account_id(name: str) -> AccountId:
    return AccountId("00000000-0000-0000-0000-000000000001", "group", f"name{name}")


def spec(name: str, location: str = "westeurope") -> AccountSpec:
    return AccountSpec(account_id(name), TenantId("00000000-0000-0000-0000-000000000002"), location, None)


async def create(store: SqlStore, *names: str) -> None:
    for name in names:
        placement = KeyPlacement(None, sealed(b"sealed", system_key="1"), None)
        await store.create_account(spec(name), placement, incarnation=UuidIds().new(), now=CLOCK.now())


async def change(store: SqlStore, name: str, location: str) -> None:
    account = await store.account(account_id(name))
    assert account is not None
    await store.update_account(account, spec(name, location), None, now=CLOCK.now())


async def delete(store: SqlStore, *names: str) -> None:
    for name in names:
        assert await store.delete_account(account_id(name), now=CLOCK.now())


async def retained_states(address: str) -> dict[str, tuple[str, int]]:
    """What a newcomer finds: incarnation and sequence by topic. What is retained comes before anything newer."""
    async with subscriber(address) as newcomer:
        async with bus(address).connect("teller") as session:
            await session.publish(message(END))
        await newcomer.hears(END)
        return {
            one.topic: (one.event["data"]["incarnation"], one.event["data"]["sequence"])
            for one in newcomer.heard
            if one.retained and one.topic.endswith("/state")
        }


async def committed_states(store: SqlStore) -> dict[str, tuple[str, int]]:
    return {f"{PREFIX}/{one.id.topic}/state": (one.incarnation, one.sequence) for one in await store.accounts()}


async def converged(address: str, store: SqlStore) -> bool:
    return await retained_states(address) == await committed_states(store)


def told(heard: Subscriber) -> list[tuple[str, int]]:
    """Name and sequence of the events that were heard, in their order."""
    return [
        (one.topic.split("/")[-2].removeprefix("name"), one.event["data"]["sequence"])
        for one in heard.heard
        if one.topic.endswith("/events") and one.topic.startswith(f"{PREFIX}/accounts/")
    ]


async def published(store: SqlStore, address: str) -> None:
    async with running(sending := publisher(store, address)):
        assert await sending.drain(within=SOON)


@asynccontextmanager
async def persistent(directory: Path) -> AsyncIterator[Mosquitto]:
    """A broker that saves everything when it stops."""
    data = directory / "data"
    data.mkdir()
    lines = ("persistence true", f"persistence_location {data}/", "autosave_interval 0")
    async with mosquitto(directory / "mosquitto", *lines) as broker:
        yield broker


async def test_a_broker_with_an_old_snapshot_converges_also_for_deleted_and_new_accounts(
    tmp_path: Path, store: SqlStore
) -> None:
    saved, copy = tmp_path / "data/mosquitto.db", tmp_path / "copy.db"
    async with persistent(tmp_path) as broker:
        await create(store, "kept", "changed", "deleted", "replaced")
        await published(store, broker.address)
        await broker.stop()
        shutil.copy(saved, copy)
        await broker.start()
        await change(store, "changed", "northeurope")
        await delete(store, "deleted", "replaced")
        await create(store, "replaced", "new", "shortlived")
        await delete(store, "shortlived")
        await published(store, broker.address)
        assert await converged(broker.address, store)
        await broker.stop()
        shutil.copy(copy, saved)
        await broker.start()
        assert not await converged(broker.address, store), "the snapshot is not old"
        async with subscriber(broker.address, f"{PREFIX}/accounts/+/+/+/events") as heard:
            await published(store, broker.address)
            await heard.until(lambda: len(told(heard)) >= 7)
            by_name: dict[str, list[int]] = {}
            for name, sequence in told(heard):
                by_name.setdefault(name, []).append(sequence)
        assert by_name == {"changed": [2], "deleted": [2], "replaced": [2, 1], "new": [1], "shortlived": [1, 2]}
        assert await converged(broker.address, store)


async def test_of_what_is_older_than_the_retention_only_the_last_event_of_each_account_comes_again(
    tmp_path: Path, store: SqlStore
) -> None:
    async with mosquitto(tmp_path / "mosquitto") as broker:
        await create(store, "a", "b")
        for location in ("one", "two", "three"):
            await change(store, "a", location)
        await delete(store, "b")
        await published(store, broker.address)
        past = json.dumps({"store": await store.identity(), "number": 1})
        async with bus(broker.address).connect("past") as session:
            await session.publish(message(MARKER, past.encode(), retain=True))
        sending = publisher(store, broker.address, outbox_retention=timedelta(0))
        async with subscriber(broker.address, f"{PREFIX}/accounts/+/+/+/events") as heard, running(sending):
            assert await sending.drain(within=SOON)
            await heard.until(lambda: len(told(heard)) >= 2)
            assert told(heard) == [("a", 4), ("b", 2)]


async def test_a_broker_from_before_the_marker_is_rid_of_deleted_accounts(tmp_path: Path, store: SqlStore) -> None:
    async with mosquitto(tmp_path / "mosquitto") as broker:
        await create(store, "kept", "deleted")
        await published(store, broker.address)
        before = await retained_states(broker.address)
        await delete(store, "deleted")
        await published(store, broker.address)
        async with bus(broker.address).connect("past") as session:
            await session.publish(message(MARKER, b"", retain=True))
            for topic in before:
                body = json.dumps({"data": {"incarnation": "old", "sequence": 0}})
                await session.publish(message(topic, body.encode(), retain=True))
        await published(store, broker.address)
        assert await converged(broker.address, store)


@pytest.mark.parametrize("other", [{"store": "00000000-0000-4000-8000-000000000000"}, {}])
async def test_the_marker_of_another_database_or_of_none_says_nothing(
    tmp_path: Path, store: SqlStore, other: dict[str, str]
) -> None:
    """Under the same prefix there was another daemon, with more events than ours will have for long."""
    await create(store, "a", "b", "c")
    await store.mark_published([1, 2, 3], now=CLOCK.now())
    async with mosquitto(tmp_path / "mosquitto") as broker:
        async with bus(broker.address).connect("other") as session:
            await session.publish(message(MARKER, json.dumps({**other, "number": 3}).encode(), retain=True))
        await published(store, broker.address)
        assert await converged(broker.address, store)
        async with bus(broker.address).connect("looker") as session:
            marker = json.loads(await session.retained(MARKER) or b"{}")
        assert marker == {"store": await store.identity(), "number": 3}


async def test_databases_made_separately_have_ids_of_their_own(store: SqlStore) -> None:
    other = open_inline(UuidIds(), auditor())
    assert await other.identity() != await store.identity() == await store.identity()
    await other.close()


async def test_over_a_long_outage_memory_is_bounded_by_a_page_and_nothing_is_lost(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAGE_ROWS", 50)
    pages: list[int] = []
    read = store.unpublished

    async def counted(*, after: int, limit: int) -> list[OutboxRow]:
        rows = list(await read(after=after, limit=limit))
        pages.append(len(rows))
        return rows

    monkeypatch.setattr(store, "unpublished", counted)
    async with mosquitto(tmp_path / "mosquitto", "max_queued_messages 0") as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            assert await sending.drain(within=SOON)
            await broker.kill()
            await until(lambda: not sending.status.link.connected)
            tracemalloc.start()
            bulk = "x" * 1000
            for step in range(20):
                await commit(store, *(row(f"accounts/{name}", sequence=step, bulk=bulk) for name in range(100)))
            pages.clear()
            tracemalloc.reset_peak()
            begun, _ = tracemalloc.get_traced_memory()
            await broker.start()
            assert await sending.drain(within=timedelta(seconds=60))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert max(pages) == 50
    assert sum(pages) == 2000
    assert peak - begun < 2_000_000, "less than the outbox, which is of more than 2 MB"
    assert await left(store) == []


async def test_the_marker_moves_within_a_long_backlog(
    killable: Mosquitto, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAGE_ROWS", 4)
    monkeypatch.setattr(marking, "INTERVAL", timedelta(0))
    await commit(store, *(row(f"accounts/{number}", sequence=number) for number in range(40)))
    sending = publisher(store, killable.address)
    async with subscriber(killable.address) as heard, running(sending):
        assert await sending.drain(within=SOON)
        await heard.until(lambda: bool(told := markers(heard)) and told[-1] == 40)
    assert markers(heard) == sorted(set(markers(heard)))
    assert len(markers(heard)) > 5


def markers(heard: Subscriber) -> list[int]:
    return [one.event["number"] for one in heard.on(MARKER) if "number" in one.event]


async def test_republishing_sends_every_state_again_and_empties_those_of_deleted_accounts(
    tmp_path: Path, store: SqlStore
) -> None:
    async with mosquitto(tmp_path / "mosquitto") as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            await create(store, "a", "b", "deleted")
            await delete(store, "deleted")
            assert await sending.drain(within=SOON)
            async with bus(broker.address).connect("vandal") as session:
                await session.publish(message(f"{PREFIX}/{account_id('a').topic}/state", b"", retain=True))
                ghost = json.dumps({"data": {"incarnation": "ghost", "sequence": 0}})
                await session.publish(
                    message(f"{PREFIX}/{account_id('deleted').topic}/state", ghost.encode(), retain=True)
                )
            assert not await converged(broker.address, store)
            async with subscriber(broker.address, f"{PREFIX}/accounts/+/+/+/events") as heard:
                for times in (1, 2):
                    assert await sending.republish(within=SOON) == Republished(3, is_sent=True)
                    await heard.until(lambda times=times: len(told(heard)) >= 3 * times)  # type: ignore[misc]
                    assert await converged(broker.address, store)
                assert told(heard) == [("a", 1), ("b", 1), ("deleted", 2)] * 2
                assert len({one.event["id"] for one in heard.heard}) == 3, "a repetition has the id of its first"


async def test_news_committed_while_republishing_are_not_overtaken(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAGE_ROWS", 3)
    names = [f"account{number}" for number in range(20)]
    async with mosquitto(tmp_path / "mosquitto") as broker:
        sending = publisher(store, broker.address)
        async with subscriber(broker.address) as heard, running(sending):
            await create(store, *names)
            for turn in range(5):
                again = asyncio.create_task(sending.republish(within=SOON))
                for name in names:
                    await change(store, name, f"place{turn}")
                    sending.notify()
                    await asyncio.sleep(0)
                assert (await again).is_sent
            assert await sending.drain(within=SOON)
            await heard.until(lambda: {(name, 6) for name in names} <= set(told(heard)))
        for name in names:
            sequences = [sequence for one, sequence in told(heard) if one == name]
            assert sequences == sorted(sequences), name
        assert await converged(broker.address, store)


async def test_without_a_broker_republishing_is_not_begun_and_a_refusal_leaves_the_rest_to_later(
    tmp_path: Path, store: SqlStore
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic readwrite {PREFIX}/#\n")
    await create(store, "a", "b")
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            assert await sending.drain(within=SOON)
            await broker.kill()
            await until(lambda: not sending.status.link.connected)
            assert await sending.republish(within=timedelta(milliseconds=200)) == Republished(None, is_sent=False)
            assert await left(store) == []
            rules.write_text(f"topic readwrite {MARKER}\ntopic readwrite {PREFIX}/{account_id('a').topic}/#\n")
            await broker.start()
            await until(lambda: bool(sending.status.refused))
            assert not (await sending.republish(within=timedelta(milliseconds=500))).is_sent
            rules.write_text(f"topic readwrite {PREFIX}/#\n")
            broker.reload()
            assert (await sending.republish(within=SOON)).is_sent
            assert await converged(broker.address, store)


WRITE_ONLY = f"topic write {PREFIX}/#\n"
READABLE = f"topic readwrite {PREFIX}/#\n"
QUICK = {"marker_timeout": timedelta(milliseconds=300)}
"""Short, so that the test is; whoever reads is let in by a rule for its own user, without a password."""


@asynccontextmanager
async def write_only(directory: Path) -> AsyncIterator[tuple[Mosquitto, Path]]:
    """A broker that lets everybody write and only `reader` read."""
    rules = directory / "acl"
    rules.write_text(WRITE_ONLY + f"user reader\ntopic read {PREFIX}/#\n")
    async with mosquitto(directory / "mosquitto", f"acl_file {rules}") as broker:
        yield broker, rules


async def shown_of_the_bus(store: SqlStore, sending: Publisher) -> str:
    """What /healthz says of the bus, while it is not well."""
    health = Health(CLOCK)
    await Observer(store, clock=CLOCK, health=health, metrics=Metrics(), publisher=sending).observe()
    assert not health.is_well(Component.BUS)
    return health.conditions[Component.BUS].message


async def reconnected(sending: Publisher, broker: Mosquitto) -> None:
    await broker.kill()
    await until(lambda: not sending.status.link.connected)
    await broker.start()
    await until(lambda: sending.status.link.connected)


async def test_a_broker_that_hands_nothing_back_is_waited_for_once_and_named_once(
    tmp_path: Path, store: SqlStore
) -> None:
    with capture_logs() as logs:
        async with write_only(tmp_path) as (broker, _):
            sending = publisher(store, broker.address, marker_timeout=timedelta(seconds=1))
            loop, times = asyncio.get_running_loop(), []
            async with running(sending):
                for name in ("a", "b", "c"):
                    await create(store, name)
                    begun = loop.time()
                    assert await sending.drain(within=SOON)
                    times.append(loop.time() - begun)
                    assert sending.status.unmarked is not None
                    assert MARKER in sending.status.unmarked
                    assert MARKER in await shown_of_the_bus(store, sending)
                    await reconnected(sending, broker)
    assert times[0] >= 1
    assert max(times[1:]) < 1, times
    assert [log["topic"] for log in logs if log["event"] == "marker-refused"] == [MARKER]


async def test_a_broker_that_is_read_late_gets_the_last_event_of_each_account_and_nothing_is_overtaken(
    tmp_path: Path, store: SqlStore
) -> None:
    async with write_only(tmp_path) as (broker, rules):
        past = json.dumps({"store": await store.identity(), "number": 1})
        async with bus(broker.address).connect("past") as session:
            await session.publish(message(MARKER, past.encode(), retain=True))
        sending = publisher(store, broker.address, **QUICK)
        with capture_logs() as logs:
            async with running(sending):
                await create(store, "a", "b")
                await change(store, "a", "one")
                await change(store, "a", "two")
                assert await sending.drain(within=SOON)
                rules.write_text(READABLE)
                broker.reload()
                async with subscriber(broker.address, f"{PREFIX}/accounts/+/+/+/events") as heard:
                    with suppress(BusUnavailableError):  # the publisher comes back and takes over in its turn
                        async with bus(broker.address).connect(publisher_client_id(PREFIX)):
                            await until(lambda: any(log["event"] == "bus-lost" for log in logs))
                    await until(lambda: sending.status.unmarked is None)
                    assert await sending.drain(within=SOON)
                    await change(store, "a", "three")
                    assert await sending.drain(within=SOON)
                    await heard.until(lambda: ("a", 4) in told(heard))
                    assert sorted(told(heard)) == [("a", 3), ("a", 4), ("b", 1)]
                assert await converged(broker.address, store)
    said = [log["event"] for log in logs if log["event"].startswith("marker")]
    assert said == ["marker-refused", "marker-accepted"]


async def test_a_marker_that_can_be_read_and_not_kept_is_named_once(tmp_path: Path, store: SqlStore) -> None:
    async with mosquitto(tmp_path / "mosquitto", "retain_available false") as broker:
        sending = publisher(store, broker.address)
        with capture_logs() as logs:
            async with running(sending):
                for _ in range(3):
                    await commit(store, row("keys/a", retained=Retained.KEEP))
                    assert await sending.drain(within=SOON)
                    await until(lambda: sending.status.unmarked is not None)
                    await reconnected(sending, broker)
    assert [log["event"] for log in logs if log["event"].startswith("marker")] == ["marker-refused"]


async def test_a_refused_marker_is_tried_again_without_a_new_connection(tmp_path: Path, store: SqlStore) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic read {PREFIX}/service/#\ntopic readwrite {PREFIX}/accounts/#\n")
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            await create(store, "a")
            assert await sending.drain(within=SOON)
            await until(lambda: sending.status.unmarked is not None)
            since = sending.status.link.since
            rules.write_text(READABLE)
            broker.reload()
            await until(lambda: sending.status.unmarked is None)
            assert sending.status.link.since == since
            async with bus(broker.address).connect("reader") as session:
                marker = json.loads(await session.retained(MARKER) or b"{}")
        assert marker == {"store": await store.identity(), "number": 1}


async def test_what_is_republished_is_not_held_back_by_another_accounts_refusal(
    tmp_path: Path, store: SqlStore
) -> None:
    rules = tmp_path / "acl"
    everything = f"topic readwrite {PREFIX}/#\n"
    rules.write_text(everything)
    slow = {"reconnect_first": timedelta(minutes=1), "reconnect_most": timedelta(minutes=1)}
    async with mosquitto(tmp_path / "mosquitto", f"acl_file {rules}") as broker:
        sending = publisher(store, broker.address, **slow)
        async with running(sending):
            await create(store, "a", "b")
            assert await sending.drain(within=SOON)
            allowed = (f"topic readwrite {PREFIX}/{place}/#\n" for place in (account_id("b").topic, "service"))
            rules.write_text(f"topic read {PREFIX}/#\n{''.join(allowed)}")
            broker.reload()
            while await sending.drain(within=timedelta(seconds=1)):  # until the broker has read its rules
                await change(store, "a", "elsewhere")
            assert sending.status.refused
            async with subscriber(broker.address, f"{PREFIX}/accounts/+/+/+/events") as heard:
                result = await sending.republish(within=timedelta(seconds=2))
                assert (result.count, result.is_sent) == (1, False)
                await heard.until(lambda: ("b", 1) in told(heard))


@dataclass
class HandClock:
    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Refusing:
    """Stands for a session with a broker that refuses to be read; mosquitto is silent instead."""

    refuses = True

    async def retained(self, _: str) -> bytes | None:
        if self.refuses:
            raise BusRefusedError("Not authorized")
        return None


async def test_a_marker_that_may_not_be_read_is_asked_for_again(store: SqlStore) -> None:
    session = Refusing()
    place = Outbox(store, CLOCK, SystemRandomness())
    clock = HandClock()
    retry_after = timedelta(seconds=30)
    marker = Marker(place, cast("Clock", clock), prefix=PREFIX, retention=timedelta(hours=1), retry_after=retry_after)
    await create(store, "a")
    (row,) = await place.page(after=0)
    await place.mark([row.number])
    await marker.consult(cast("BusSession", session))
    assert marker.problem is not None
    assert not await marker.catch_up(cast("BusSession", session)), "not before its time"
    session.refuses = False
    clock.seconds += 30
    assert await marker.catch_up(cast("BusSession", session))
    assert marker.problem is None
    assert [row.number for row in await place.page(after=0)] == [row.number]
