"""A service whose parts run one by one, over a real store, broker and emulator; shared by some benchmarks."""

import asyncio
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from benchmarks.check_cpu import emulated_azure, make_customer
from byokd.demo.broker import iotcore_broker
from byokd.demo.stage import make_service_keys
from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.decide import Decision
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import Outcome, Reason
from byokd.emulator.client import ControlClient
from byokd.ports import Ids, KeyTarget, Store
from byokd.records import KeyPlacement
from byokd.runtime.wiring import Wired, wire
from byokd.settings import Settings

ACCOUNTS = 10_000
WINDOW = 50
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


async def commit(scene: Scene, outcome: Outcome) -> None:
    """Commit that verdict on the one key."""
    watch, now = await scene.watch(), scene.wired.service.clock.now()
    before = watch.current_version.verdict
    reason = Reason.ACCESS_DENIED if outcome is Outcome.DENIED else None
    after = replace(before, outcome=outcome, reason=reason, number=before.number + 1, since=now)
    verdicts = {watch.current_version.id: after}
    decision = Decision(verdicts, {}, None, watch.warnings, (), watch.due_at, changes=True)
    await scene.wired.store.commit_decision(watch, decision, now=now)
    scene.wired.service.follower.notify()
    scene.wired.service.publisher.notify()


async def copy_account(
    store: Store, first: AccountSpec, others: Iterable[AccountSpec], ids: Ids, now: datetime
) -> None:
    """Make other accounts with the wrap of the first: nothing opens them."""
    wrapped = await store.wrapped_key(first.id)
    if wrapped is None:
        raise AssertionError("it was made a moment ago")
    placement = KeyPlacement(wrapped.key_identifier, wrapped.sealed, None)
    for spec in others:
        await store.create_account(spec, placement, incarnation=ids.new(), now=now)


def acknowledged(scene: Scene) -> float:
    """How many events were acknowledged so far: a number in memory, so that to ask disturbs nothing."""
    (counter,) = scene.wired.service.metrics.published.collect()
    return counter.samples[0].value


async def all_published(scene: Scene) -> bool:
    """Whether every account has followed and everything is acknowledged."""
    return not await scene.wired.store.unpublished(after=0, limit=1) and await all_followed(scene)


async def all_followed(scene: Scene) -> bool:
    """Whether every account has followed the verdict."""
    watch, last = await scene.watch(), await scene.wired.store.account(scene.spec(ACCOUNTS - 1).id)
    return last is not None and last.followed == watch.current_version.verdict.number


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def running(*parts: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run parts of the service until the end of the block."""
    async with asyncio.TaskGroup() as group:

        async def run(part: Callable[[], Awaitable[None]]) -> None:
            await part()

        tasks = [group.create_task(run(part)) for part in parts]
        yield
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def open_scene(**more: Mapping[str, object]) -> AsyncIterator[Scene]:
    """Start everything that a service needs, and wire one; `more` are further sections of its settings."""
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
                **more,
            }
        )
        wired = await wire(settings, stack)
        await wired.store.prepare()
        await wired.store.claim_vaults("bench")
        yield Scene(wired, control, KeyTarget(IDENTITY, tenant, KEY), broker)


def figure(values: list[float], unit: str, against: str) -> dict[str, object]:
    """Give a figure: the median of several runs."""
    return {
        "value": statistics.median(values),
        "unit": unit,
        "against": against,
        "runs": len(values),
        "min": min(values),
        "max": max(values),
    }
