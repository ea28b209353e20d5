"""How long one verdict and one rotation take to reach ten thousand accounts of one key.

All parts are real: the store in a file, the publisher, a broker and an emulator in processes of their own.

* a verdict: from the commit of Denied (which closes the gate) to the last PUBACK of both messages of each account;
  against the same messages sent by bare aiomqtt with the same window;
* a rotation: account keys rewrapped, against bare unwrap, wrap and unwrap by the same client, as many at once.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.check_cpu import emulated_azure, make_customer
from byokd.demo.broker import iotcore_broker
from byokd.demo.stage import make_service_keys
from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.decide import Decision
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import DetectedBy, EventType, Outcome, Reason
from byokd.emulator.client import ControlClient
from byokd.ports import BusMessage, KeyTarget
from byokd.records import KeyPlacement
from byokd.runtime.envelope import messages
from byokd.runtime.wiring import Wired, wire
from byokd.settings import Settings

ACCOUNTS = 10_000
REWRAPPED = 500
"""A sample: each costs the emulator three calls, two of them with a private key."""

ROUNDS = 3
WINDOW = 50
PREFIX = "byokd/v1"
WAIT_SECONDS = 300.0
POLL_SECONDS = 0.02
IDENTITY = IdentityName("bench")
KEY = KeyIdentifier.parse("https://bench-keys.vault.azure.net/keys/media", allowed_suffixes=("vault.azure.net",))

Figures = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Scene:
    """A service whose parts run one by one, and the customer's hand on the vault."""

    wired: Wired
    control: ControlClient
    target: KeyTarget
    broker: str

    async def watch(self) -> Watch:
        """Give the one watch."""
        found = await self.wired.store.find_watch(self.target)
        if found is None:
            raise AssertionError("it was made with the first account")
        return found

    def spec(self, number: int) -> AccountSpec:
        """Give an account of the one key."""
        account = AccountId("3f0c2f8e-0000-4000-8000-00000000beef", "bench", f"bench{number:05d}")
        return AccountSpec(account, self.target.tenant, "westeurope", CustomerKey(IDENTITY, KEY))


async def fanout() -> Figures:
    """Measure the way of a verdict; give two figures, and print the time to the closed gate."""
    async with _scene() as scene:
        service = scene.wired.service
        await service.registrar.apply(scene.spec(0))
        await _copy_account(scene)
        await _commit(scene, Outcome.DENIED)
        async with _running(service.follower.run):
            sample = await _messages(scene)
        async with _running(service.publisher.run, service.follower.run):
            await _until(lambda: _all_published(scene))
            rounds = [await _round(scene, sample) for _ in range(ROUNDS)]
    for closed, told, bare in rounds:
        print(f"  gate closed after {closed * 1000:.1f} ms, last PUBACK after {told:.2f} s, bare {bare:.2f} s")
    return {
        "fanout_s_10k_accounts": _figure([told for _, told, _ in rounds], "s", "10 s"),
        "publish_rate_vs_bare": _figure(
            [bare / told for _, told, bare in rounds], "rate ratio", "bare aiomqtt, the same messages and window"
        ),
    }


async def rewrap_rate() -> Figures:
    """Measure a rotation; give one figure."""
    async with _scene() as scene:
        service = scene.wired.service
        for number in range(REWRAPPED):
            await service.registrar.apply(scene.spec(number))
        ratios = []
        for done in range(ROUNDS):
            bare = await _bare_calls(scene)
            await scene.control.rotate_key("bench-keys", "media")
            await service.checker.check(await scene.watch(), detected_by=DetectedBy.POLL)
            begun = time.perf_counter()
            async with _running(service.rewrapper.run):
                await _until(partial(_moved, scene, (done + 1) * REWRAPPED))
            rewrapped = time.perf_counter() - begun
            print(f"  {REWRAPPED / rewrapped:.0f} rewraps/s, bare calls for {REWRAPPED / bare:.0f}/s")
            ratios.append(bare / rewrapped)
    return {"rewrap_rate_vs_bare": _figure(ratios, "rate ratio", "bare unwrap + wrap + unwrap by the same client")}


async def _copy_account(scene: Scene) -> None:
    """Make the other accounts with the wrap of the first: nothing opens them."""
    store = scene.wired.store
    wrapped = await store.wrapped_key(scene.spec(0).id)
    if wrapped is None:
        raise AssertionError("it was made a moment ago")
    placement = KeyPlacement(wrapped.key_identifier, wrapped.sealed, None)
    now, ids = scene.wired.service.clock.now(), scene.wired.service.outside.ids
    for number in range(1, ACCOUNTS):
        await store.create_account(scene.spec(number), placement, incarnation=ids.new(), now=now)


async def _round(scene: Scene, sample: list[BusMessage]) -> tuple[float, float, float]:
    """Allow the key and deny it; give the seconds to the commit, to the last PUBACK, and of bare sending."""
    await _commit(scene, Outcome.USABLE)
    await _until(lambda: _all_published(scene))
    begun = time.perf_counter()
    await _commit(scene, Outcome.DENIED)
    closed = time.perf_counter() - begun
    await _until(lambda: _all_published(scene))
    told = time.perf_counter() - begun
    return closed, told, await _bare_messages(scene, sample)


async def _commit(scene: Scene, outcome: Outcome) -> None:
    watch, now = await scene.watch(), scene.wired.service.clock.now()
    before = watch.current_version.verdict
    reason = Reason.ACCESS_DENIED if outcome is Outcome.DENIED else None
    after = replace(before, outcome=outcome, reason=reason, number=before.number + 1, since=now)
    verdicts = {watch.current_version.id: after}
    decision = Decision(verdicts, {}, None, watch.warnings, (), watch.due_at, changes=True)
    await scene.wired.store.commit_decision(watch, decision, now=now)
    scene.wired.service.follower.notify()
    scene.wired.service.publisher.notify()


async def _messages(scene: Scene) -> list[BusMessage]:
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


async def _bare_messages(scene: Scene, sample: list[BusMessage]) -> float:
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


async def _bare_calls(scene: Scene) -> float:
    """Unwrap, wrap and unwrap as often as a rotation does, as many at once; give the seconds."""
    keys, watch = scene.wired.service.outside.keys, await scene.watch()
    version = watch.current_version
    target = replace(scene.target, key=KEY.at(version.version))
    left = deque(range(REWRAPPED))

    async def worker() -> None:
        while left:
            left.popleft()
            plaintext = await keys.unwrap(target, version.probe.wrapped)
            wrapped = await keys.wrap(target, plaintext if isinstance(plaintext, bytes) else b"")
            if not (isinstance(plaintext, bytes) and isinstance(wrapped, bytes)):
                raise AssertionError("the vault is well")  # noqa: TRY004 - not a matter of types
            await keys.unwrap(target, wrapped)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(scene.wired.service.settings.rewrap.vault_concurrency):
            workers.create_task(worker())
    return time.perf_counter() - begun


async def _all_published(scene: Scene) -> bool:
    """Whether every account has followed and everything is acknowledged. Cheap: it is asked often."""
    store = scene.wired.store
    if await store.unpublished(after=0, limit=1):
        return False
    watch, last = await scene.watch(), await store.account(scene.spec(ACCOUNTS - 1).id)
    return last is not None and last.followed == watch.current_version.verdict.number


async def _moved(scene: Scene, wanted: int) -> bool:
    """Whether so many were rewrapped. The counter is asked, because the store would have to look at every account."""
    registry = scene.wired.service.metrics.registry
    return registry.get_sample_value("byokd_rewraps_total", {"result": "done"}) == wanted


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def _running(*parts: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:

        async def run(part: Callable[[], Awaitable[None]]) -> None:
            await part()

        tasks = [group.create_task(run(part)) for part in parts]
        yield
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def _scene() -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byokd-bench-")))
        azure = await stack.enter_async_context(emulated_azure(directory))
        os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = azure.control
        broker = await stack.enter_async_context(iotcore_broker())
        control = await stack.enter_async_context(ControlClient(azure.control))
        tenant, _ = await make_customer(azure)
        make_service_keys(directory / "keys")
        settings = Settings.model_validate(
            {
                "store": {"url": f"sqlite:///{directory}/byokd.db"},
                "network": {"ca_file": str(azure.ca), "connect_to": {"*.vault.azure.net": azure.tls}},
                "identities": {"bench": {}},
                "service_keys": {"directory": str(directory / "keys")},
                "mqtt": {"url": f"mqtt://{broker}", "window": WINDOW},
            }
        )
        wired = await wire(settings, stack)
        await wired.store.prepare()
        await wired.store.claim_vaults("bench")
        yield Scene(wired, control, KeyTarget(IDENTITY, tenant, KEY), broker)


def _figure(values: list[float], unit: str, against: str) -> dict[str, object]:
    return {
        "value": statistics.median(values),
        "unit": unit,
        "against": against,
        "runs": len(values),
        "min": min(values),
        "max": max(values),
    }
