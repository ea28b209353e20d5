"""What the daemon's memory does while the broker is down and 100,000 events come to wait.

Emulator, broker and daemon are processes of their own. The broker is ended; a key of ten thousand accounts is disabled
and enabled ten times, which the daemon sees by its own checks; then the broker comes back, empty. Resident memory of
the daemon is read from /proc all the while.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.scene import ACCOUNTS, Figures, copy_account
from byokd.demo.scene import Scene
from byokd.demo.stage import Stage, set_stage
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import AccountId
from byokd.runtime.configuration import read_settings
from byokd.runtime.wiring import wire

CHANGES = 10
WAIT_SECONDS = 300.0
SETTLE_SECONDS = 5.0
SAMPLE_SECONDS = 0.1
VAULT, KEY = "bench-keys", "media"
SUBSCRIPTION = "3f0c2f8e-0000-4000-8000-00000000beef"
ACCOUNT = """\
accounts:
  - id: /subscriptions/{subscription}/resourceGroups/bench/providers/Microsoft.Media/mediaservices/bench
    tenant: {tenant}
    location: westeurope
    encryption: {{type: CustomerKey, identity: platform, keyIdentifier: "https://{vault}.vault.azure.net/keys/{key}"}}
"""


async def backlog_memory() -> Figures:
    """Measure; give four figures in MB: the daemon's memory before, the most while events wait, and while it drains."""
    async with set_stage(None) as stage:
        if stage.own_broker is None:
            raise AssertionError("the stage has a broker of its own")
        await _fill(stage)
        await _until_waiting(stage, 0)
        await asyncio.sleep(SETTLE_SECONDS)
        async with _sampled(stage) as idle:
            await asyncio.sleep(SETTLE_SECONDS)
        await stage.own_broker.stop()
        async with _sampled(stage) as waiting:
            for number in range(CHANGES):
                await (stage.control.enable_key if number % 2 else stage.control.disable_key)(VAULT, KEY)
                await _until_waiting(stage, (number + 1) * ACCOUNTS)
                print(f"  {(number + 1) * ACCOUNTS} events wait: {_resident_mb(stage):.1f} MB")
            await asyncio.sleep(SETTLE_SECONDS)
        await stage.own_broker.start()
        async with _sampled(stage) as draining:
            await _until_waiting(stage, 0)
            await asyncio.sleep(SETTLE_SECONDS)
    before, most, drained = max(idle), max(waiting), max(draining)
    print(f"  before {before:.1f} MB; at most {most:.1f} MB while events wait, {drained:.1f} MB while they are sent")
    return {
        "backlog_rss_mb_before": _figure(idle, "10,000 accounts, no event waits"),
        "backlog_rss_mb_100k_events": _figure(waiting, "backlog_rss_mb_before"),
        "backlog_rss_mb_draining": _figure(draining, "as above"),
        "backlog_rss_growth_mb": _figure([max(most, drained) - before], "32 MB"),
    }


async def _fill(stage: Stage) -> None:
    """Make ten thousand accounts of one key, all but one of them while the daemon is away."""
    vault = await stage.control.create_vault(VAULT, purge_protection=True)
    await stage.control.create_key(VAULT, KEY, size=2048)
    await stage.control.grant(VAULT)
    file = stage.directory / "bench.yaml"
    file.write_text(ACCOUNT.format(subscription=SUBSCRIPTION, tenant=vault["tenant"], vault=VAULT, key=KEY))
    code, text = await Scene(stage).byokd("accounts", "apply", "-f", str(file))
    if code:
        raise RuntimeError(text)
    await stage.service.end()
    settings = read_settings(stage.directory / "byokd.toml", {})
    async with AsyncExitStack() as stack:
        wired = await wire(settings, stack)
        await wired.store.prepare()
        first = await wired.store.account(AccountId(SUBSCRIPTION, "bench", "bench"))
        if first is None:
            raise AssertionError("it was made a moment ago")
        spec, service = first.spec, wired.service
        names = (f"bench{number:05d}" for number in range(1, ACCOUNTS))
        others = (
            AccountSpec(AccountId(SUBSCRIPTION, "bench", name), spec.tenant, spec.location, spec.customer_key)
            for name in names
        )
        await copy_account(wired.store, spec, others, service.outside.ids, service.clock.now())
    await stage.service.start()


async def _until_waiting(stage: Stage, events: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            health: Any = await stage.service.metric("byokd_events_unpublished")
            if health is not None and (health >= events if events else health == 0):
                return
            await asyncio.sleep(SAMPLE_SECONDS)


def _resident_mb(stage: Stage) -> float:
    lines = Path(f"/proc/{stage.daemon.pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@asynccontextmanager
async def _sampled(stage: Stage) -> AsyncIterator[list[float]]:
    """Note the daemon's memory until the end of the block."""
    found = [_resident_mb(stage)]

    async def sample() -> None:
        for _ in itertools.count():
            await asyncio.sleep(SAMPLE_SECONDS)
            found.append(_resident_mb(stage))

    sampling = asyncio.create_task(sample())
    try:
        yield found
    finally:
        sampling.cancel()


def _figure(values: list[float], against: str) -> dict[str, object]:
    """Give the most that was seen."""
    return {
        "value": max(values),
        "unit": "MB",
        "against": against,
        "runs": len(values),
        "min": min(values),
        "max": max(values),
    }
