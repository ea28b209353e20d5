"""How quickly changes of state reach the bus, two messages each, against bare aiomqtt.

All parts are real: the store in a file, the publisher, a broker and an emulator in processes of their own. A key of
ten thousand accounts is denied, or allowed again. Two ways of it are timed, in turns with the bare loop:

* a change: from the commit of the verdict (which closes the gate) over the change of every account, in the store, with
  its event, to the last PUBACK;
* a backlog: the events are in the store already, as after an outage of the broker.

The bare loop has the messages ready in memory: the same topics, payloads and properties, as many in flight, QoS 1,
retained where ours are, the same broker. It awaits each PUBACK, and does nothing else.
"""

import asyncio
import time
from collections import deque
from datetime import timedelta

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.scene import (
    ACCOUNTS,
    POLL_SECONDS,
    WAIT_SECONDS,
    WINDOW,
    Figures,
    Scene,
    acknowledged,
    all_followed,
    all_published,
    commit,
    copy_account,
    figure,
    open_scene,
    running,
    until,
)
from byokd.domain.vocabulary import EventType, Outcome
from byokd.ports import BusMessage
from byokd.runtime.envelope import messages

ROUNDS = 5
PREFIX = "byokd/v1"


async def publish_rate() -> Figures:
    """Measure both; give three figures, and print the time to the closed gate."""
    async with open_scene() as scene:
        service = scene.wired.service
        await service.registrar.apply(scene.spec(0))
        others = (scene.spec(number) for number in range(1, ACCOUNTS))
        await copy_account(scene.wired.store, scene.spec(0), others, service.outside.ids, service.clock.now())
        await commit(scene, Outcome.DENIED)
        async with running(service.follower.run):
            sample = await _messages_of_a_denial(scene)
        async with running(service.publisher.run):
            await _published(scene)
        rounds = [await _round(scene, sample) for _ in range(ROUNDS)]
    return {
        "fanout_s_10k_accounts": figure([told for told, _, _ in rounds], "s", "10 s"),
        "publish_rate_vs_bare": figure(
            [bare / told for told, _, bare in rounds], "rate ratio", "bare aiomqtt, the same messages and window"
        ),
        "publish_backlog_vs_bare": figure([bare / sent for _, sent, bare in rounds], "rate ratio", "as above"),
    }


async def _round(scene: Scene, sample: list[BusMessage]) -> tuple[float, float, float]:
    """Allow the key and deny it; give the seconds to the last PUBACK of each, and of bare sending between them."""
    service = scene.wired.service
    await commit(scene, Outcome.USABLE)
    async with running(service.follower.run):
        await until(lambda: all_followed(scene))
    begun = time.perf_counter()
    async with running(service.publisher.run):
        await _published(scene)
        sent = time.perf_counter() - begun
    bare = await _send_bare(scene, sample)
    async with running(service.publisher.run, service.follower.run):
        known, begun = acknowledged(scene), time.perf_counter()
        await commit(scene, Outcome.DENIED)
        closed = time.perf_counter() - begun
        await until(lambda: _acknowledged_all(scene, since=known))
        await until(lambda: all_published(scene))
        await _published(scene)
        told = time.perf_counter() - begun
    print(
        f"  gate closed after {closed * 1000:.1f} ms, last PUBACK after {told:.2f} s; "
        f"a backlog {sent:.2f} s; bare {bare:.2f} s"
    )
    return told, sent, bare


async def _acknowledged_all(scene: Scene, *, since: float) -> bool:
    return acknowledged(scene) >= since + ACCOUNTS


async def _published(scene: Scene) -> None:
    """Wait for the last PUBACK, and for the marker: what it lacks would be sent again by the next connection."""
    if not await scene.wired.service.publisher.drain(within=timedelta(seconds=WAIT_SECONDS)):
        raise TimeoutError("not everything was acknowledged")


async def _messages_of_a_denial(scene: Scene) -> list[BusMessage]:
    """Give what a denial of all accounts sends, once the follower has written it."""
    after, found = 0, list[BusMessage]()
    async with asyncio.timeout(WAIT_SECONDS):
        while len(found) < 2 * ACCOUNTS:
            rows = await scene.wired.store.unpublished(after=after, limit=1000)
            after = rows[-1].number if rows else after
            denials = [row for row in rows if row.type == EventType.ACCOUNT_INACCESSIBLE]
            found += [part for row in denials for part in messages(row, prefix=PREFIX)]
            await asyncio.sleep(0 if rows else POLL_SECONDS)
    return found


async def _send_bare(scene: Scene, sample: list[BusMessage]) -> float:
    """Send messages as a program would that does nothing else; give the seconds to the last PUBACK."""
    left = deque(sample)
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/cloudevents+json; charset=utf-8"
    properties.PayloadFormatIndicator = 1
    host, _, port = scene.broker.rpartition(":")
    async with aiomqtt.Client(
        host, int(port), identifier="bare", protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=WINDOW
    ) as client:

        async def worker() -> None:
            while left:
                message = left.popleft()
                await client.publish(
                    message.topic, message.payload, qos=1, retain=message.retain, properties=properties
                )

        client.pending_calls_threshold = WINDOW + 1
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as workers:
            for _ in range(WINDOW):
                workers.create_task(worker())
        return time.perf_counter() - begun
