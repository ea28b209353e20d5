"""Deliveries: at least once, patiently, in batches, and never in the way of who caused them."""

import asyncio
import time
from pathlib import Path
from typing import Unpack

import pytest

from byokd.emulator import ControlError, Emulator
from byokd.emulator.subscription_documents import SubscriptionOptions
from emulator.conftest import SHARED_KEYS
from emulator.receiver import Got, Receiver
from emulator.support import KEY, VAULT, Clock

CLOUD = "CloudEventSchemaV1_0"
PATIENCE_SECONDS = 10.0


async def outcomes(emulator: Emulator, total: int) -> dict[tuple[int, str], int]:
    """How deliveries ended, once there are so many: the receiver sees one a moment before it is counted."""
    found: dict[tuple[int, str], int] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sum(found.values()) < total:
            listing = [one for one in await emulator.control.calls() if one["operation"] == "deliver"]
            found = {(one["status"], one["code"]): one["count"] for one in listing if one["target"] == "event-grid"}
    return found


async def subscribed(emulator: Emulator, receiver: Receiver, **options: Unpack[SubscriptionOptions]) -> None:
    await emulator.control.create_subscription(VAULT, "to-byokd", receiver.url, wait_scale=0.001, **options)


async def rotated(emulator: Emulator, times: int) -> set[str]:
    """The identifiers of so many new versions."""
    states = [await emulator.control.rotate_key(VAULT, KEY, type="EC") for _ in range(times)]
    return {one["versions"][-1]["kid"] for one in states}


def told(deliveries: list[Got]) -> list[str]:
    return [event["data"]["Id"] for one in deliveries for event in one.events]


async def test_delivery_has_the_headers_of_event_grid(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver)
    await rotated(vault, 1)
    (got,) = await receiver.got(1)
    expected = {
        "Content-Type": "application/json; charset=utf-8",
        "Connection": "close",
        "aeg-event-type": "Notification",
        "aeg-subscription-name": "TO-BYOKD",
        "aeg-delivery-count": "0",
        "aeg-data-version": "1",
        "aeg-metadata-version": "1",
    }
    assert {name: got.headers[name] for name in expected} == expected
    assert await outcomes(vault, 1) == {(200, "delivered"): 1}


@pytest.mark.parametrize("status", [100 + 102, 204])
async def test_all_of_200_to_204_is_success(vault: Emulator, receiver: Receiver, status: int) -> None:
    await subscribed(vault, receiver)
    receiver.statuses = [status]
    await rotated(vault, 1)
    assert await outcomes(vault, 1) == {(status, "delivered"): 1}
    assert (await vault.control.subscription(VAULT, "to-byokd"))["waiting"] == 0


@pytest.mark.parametrize("status", [205, 302, 307, 404, 408, 429, 500, 503])
async def test_any_other_answer_is_tried_again_with_a_growing_wait(
    vault: Emulator, receiver: Receiver, status: int
) -> None:
    await subscribed(vault, receiver)
    receiver.statuses = [status, status, 200]
    moments: list[float] = []
    await rotated(vault, 1)
    for count in (1, 2, 3):
        await receiver.got(count)
        moments.append(time.monotonic())
    first, second, third = await receiver.got(3)
    assert [one.headers["aeg-delivery-count"] for one in (first, second, third)] == ["0", "1", "2"]
    assert first.body == second.body == third.body
    least = {404: 300, 408: 120, 503: 30}.get(status, 10) * 0.001
    assert moments[1] - moments[0] >= least * 0.8
    assert moments[2] - moments[1] >= max(least, 0.03) * 0.8
    assert await outcomes(vault, 3) == {(status, "retried"): 2, (200, "delivered"): 1}


@pytest.mark.parametrize("status", [400, 401, 403, 413])
async def test_some_answers_end_it(vault: Emulator, receiver: Receiver, status: int) -> None:
    await subscribed(vault, receiver)
    receiver.statuses = [status]
    await rotated(vault, 1)
    assert await outcomes(vault, 1) == {(status, "dropped"): 1}
    assert (await vault.control.subscription(VAULT, "to-byokd"))["waiting"] == 0


async def test_event_is_given_up_after_so_many_attempts(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver, attempts=2)
    receiver.statuses = [500, 500]
    await rotated(vault, 1)
    assert await outcomes(vault, 2) == {(500, "retried"): 1, (500, "dropped"): 1}


async def test_event_is_given_up_after_a_day(vault: Emulator, receiver: Receiver, clock: Clock) -> None:
    await subscribed(vault, receiver)
    receiver.statuses = [500, 500]
    receiver.open.clear()
    await rotated(vault, 1)
    await receiver.got(1)
    clock.advance(86_400)
    receiver.open.set()
    assert await outcomes(vault, 1) == {(500, "dropped"): 1}


async def test_answer_is_awaited_only_so_long(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver, answer_seconds=0.2)
    receiver.open.clear()
    await rotated(vault, 1)
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        await receiver.got(2)
    receiver.open.set()
    assert (await outcomes(vault, 2))[0, "retried"] >= 1


async def test_change_does_not_wait_for_a_receiver_that_hangs(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver, parallel=2)
    receiver.open.clear()
    async with asyncio.timeout(PATIENCE_SECONDS):
        versions = await rotated(vault, 5)
        await receiver.got(2)
    assert (await vault.control.subscription(VAULT, "to-byokd"))["waiting"] == 5
    assert len(receiver.deliveries) == 2
    receiver.open.set()
    assert set(told(await receiver.got(5))) == versions


@pytest.mark.parametrize(
    ("schema", "content_type"),
    [
        ("EventGridSchema", "application/json; charset=utf-8"),
        (CLOUD, "application/cloudevents-batch+json; charset=utf-8"),
    ],
)
async def test_events_that_wait_travel_together(
    vault: Emulator, receiver: Receiver, schema: str, content_type: str
) -> None:
    await subscribed(vault, receiver, schema=schema, batch_size=3, parallel=1)
    receiver.open.clear()
    versions = await rotated(vault, 1)
    await receiver.got(1)
    versions |= await rotated(vault, 4)
    receiver.open.set()
    deliveries = await receiver.got(3)
    assert [len(one.body) for one in deliveries] == [1, 3, 1]
    assert {one.headers["Content-Type"] for one in deliveries} == {content_type}
    assert set(told(deliveries)) == versions


async def test_batch_that_failed_comes_again_as_it_was(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver, batch_size=10, parallel=1)
    receiver.statuses = [200, 500]
    receiver.open.clear()
    await rotated(vault, 1)
    await receiver.got(1)
    await rotated(vault, 3)
    receiver.open.set()
    _, failed, again = await receiver.got(3)
    assert failed.body == again.body
    assert len(again.body) == 3


async def test_duplicates_and_delays_can_be_ordered(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver, parallel=1)
    number = (await vault.control.set_fault("event-grid", "duplicate", share=0.5))["id"]
    await rotated(vault, 2)
    first, second, third = told(await receiver.got(3))
    assert first == second != third
    assert await outcomes(vault, 3) == {(200, "delivered"): 2, (200, "duplicate"): 1}
    await vault.control.clear_faults(number=number)
    await vault.control.set_fault("event-grid", "latency", seconds=0.3, count=1)
    began = time.monotonic()
    await rotated(vault, 1)
    await receiver.got(4)
    assert time.monotonic() - began >= 0.3


async def test_other_faults_and_other_targets_are_left_alone(vault: Emulator, receiver: Receiver) -> None:
    with pytest.raises(ControlError, match="event-grid knows no fault throttle"):
        await vault.control.set_fault("event-grid", "throttle")
    await vault.control.set_fault("*", "duplicate")
    await subscribed(vault, receiver)
    await rotated(vault, 1)
    assert await outcomes(vault, 1) == {(200, "delivered"): 1}


async def test_receiver_of_many_events_gets_each(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver)
    receiver.statuses = [503, 200, 500] * 10
    versions = await rotated(vault, 40)
    deliveries = await receiver.got(60)
    assert set(told(deliveries)) == versions


async def test_nothing_comes_after_a_subscription_ended(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver)
    receiver.statuses = [503]
    await rotated(vault, 1)
    await outcomes(vault, 1)
    carrying = f"event-grid-{VAULT}-to-byokd"
    assert carrying in {one.get_name() for one in asyncio.all_tasks()}
    await vault.control.delete_subscription(VAULT, "to-byokd")
    await subscribed(vault, receiver)
    fence = await rotated(vault, 1)
    assert told(await receiver.got(2))[1:] == list(fence)
    assert [one.get_name() for one in asyncio.all_tasks()].count(carrying) == 1


async def test_too_many_events_are_dropped_and_counted(
    vault: Emulator, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byokd.emulator.deliveries.MOST_WAITING", 3)
    await subscribed(vault, receiver, parallel=1)
    receiver.open.clear()
    taken = await rotated(vault, 3)
    await rotated(vault, 2)
    assert await outcomes(vault, 2) == {(0, "overflow"): 2}
    receiver.open.set()
    await outcomes(vault, 5)
    fence = await rotated(vault, 1)
    assert set(told(await receiver.got(4))) == taken | fence


async def test_deliveries_end_with_the_emulator(tmp_path: Path, receiver: Receiver) -> None:
    before = asyncio.all_tasks()
    receiver.open.clear()
    began = time.monotonic()
    async with Emulator.start(state_dir=tmp_path, keys=SHARED_KEYS) as emulator:
        await emulator.control.create_vault(VAULT)
        await emulator.control.create_subscription(VAULT, "to-byokd", receiver.url)
        await emulator.control.create_key(VAULT, KEY)
        await receiver.got(1)
        running = {one.get_name() for one in asyncio.all_tasks() - before}
        assert {"event-grid", f"event-grid-{VAULT}-to-byokd"} <= running
    assert time.monotonic() - began < PATIENCE_SECONDS
    left = {one.get_name() for one in asyncio.all_tasks() - before}
    assert not [name for name in left if name.startswith("event-grid")]
