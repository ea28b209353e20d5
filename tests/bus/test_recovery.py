"""What a broker lost after acknowledging it: events and retained states, also of deleted accounts."""

import json
import shutil
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest

from bus.recovering import (
    CLOCK,
    MARKER,
    SOON,
    change,
    converged,
    create,
    delete,
    persistent,
    published,
    retained_states,
    told,
)
from bus.support import PREFIX, bus, commit, left, message, publisher, row, running
from byokd.adapters.sql import SqlStore, open_inline
from byokd.records import OutboxRow
from byokd.runtime import marker as marking
from byokd.runtime import outbox
from byokd.runtime.clock import UuidIds
from parts.mosquitto import Mosquitto, mosquitto
from parts.subscriber import Subscriber, subscriber
from parts.waiting import until
from store.builders import auditor

pytestmark = pytest.mark.real("mosquitto")


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
