"""All states again on command: what comes, in which order, and what a refusal holds back."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bus.recovering import (
    MARKER,
    SOON,
    account_id,
    change,
    converged,
    create,
    delete,
    told,
)
from bus.support import PREFIX, bus, left, message, publisher, running
from byokd.adapters.sql import SqlStore
from byokd.http.bus_routes import progress
from byokd.runtime import outbox
from byokd.runtime.publisher import Republished
from parts.mosquitto import mosquitto
from parts.subscriber import subscriber
from parts.waiting import until

pytestmark = pytest.mark.real("mosquitto")


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
                    assert (done := await sending.republish(within=SOON)) == Republished(3, is_sent=True)
                    assert done.came == 3
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


async def test_it_is_told_how_far_republishing_came_and_that_an_earlier_one_goes_first(
    tmp_path: Path, store: SqlStore
) -> None:
    await create(store, "a", "b")
    brief = timedelta(milliseconds=300)
    async with mosquitto(tmp_path / "mosquitto") as broker:
        sending = publisher(store, broker.address)
        async with running(sending):
            assert await sending.drain(within=SOON)
            broker.hang()
            first = await sending.republish(within=brief)
            second = await sending.republish(within=brief)
            assert sending.status.link.connected
            broker.wake()
            assert await sending.drain(within=SOON)
    assert (first, first.came) == (Republished(2, is_sent=False), 0)
    assert (second, second.came) == (Republished(None, is_sent=False), 0)
    assert progress(replace(first, came=1), 1, 0.3) == "1 came through in 0.3 s"
    assert progress(second, 2, 60) == "what waited before goes first: 0 came through in 60 s, and 2 wait"


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
