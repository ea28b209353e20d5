"""How long it takes from a delivery of Event Grid to the event on the bus that a new version was adopted.

Emulator, broker and daemon are processes of their own; the benchmark delivers, and listens. Beside the whole time
stands the part of it that the daemon waited for the vault: every call of the check, by the daemon's own histogram.
"""

import asyncio
import statistics
import time
from typing import Any

import aiohttp

from byokd.demo.hints import PATH
from byokd.demo.scene import Scene
from byokd.demo.stage import DELIVERY_FILE, Stage, set_stage

ROUNDS = 60
VAULT, KEY = "bench-keys", "media"
PATIENCE_SECONDS = 10.0
SETTLE_SECONDS = 0.7
"""Between rounds: for the rewrap, and for the look that follows each hint once more, 500 ms later."""

BASE = (
    "/subscriptions/3f0c2f8e-0000-4000-8000-00000000beef/resourceGroups/bench/providers/Microsoft.Media/mediaservices"
)
ACCOUNT = """\
accounts:
  - id: {base}/bench
    tenant: {tenant}
    location: westeurope
    encryption: {{type: CustomerKey, identity: platform, keyIdentifier: "https://{vault}.vault.azure.net/keys/{key}"}}
"""
CHECKS = 'interval = "1 s"', 'interval = "1 h"\nhint_spacing = "500 ms"'
VERSION_DETECTED = "byokd.key.version-detected"

Figures = dict[str, dict[str, object]]


async def hint_to_event() -> Figures:
    """Rotate and deliver, again and again; give three figures."""
    async with set_stage(None) as stage, aiohttp.ClientSession() as session:
        await _prepare(stage)
        status = await stage.service.ask("/status")
        url, secret = f"http://{status['eventGrid']}{PATH}", (stage.directory / DELIVERY_FILE).read_text()
        whole, waited = [], []
        for number in range(ROUNDS):
            await asyncio.sleep(SETTLE_SECONDS)
            before = await _vault_seconds(stage)
            whole.append(await _round(stage, session, url, secret, number))
            waited.append(await _vault_seconds(stage) - before)
    beyond = [total - vault for total, vault in zip(whole, waited, strict=True)]
    print(f"  of these the vault took {statistics.median(waited) * 1000:.1f} ms (median)")
    return {
        "hint_to_event_ms_p50": _figure(whole, statistics.median(whole), "ms", "the vault's own calls within it"),
        "hint_to_event_ms_p99": _figure(whole, sorted(whole)[int(0.99 * ROUNDS)], "ms", "as above"),
        "hint_beyond_vault_ms_p50": _figure(beyond, statistics.median(beyond), "ms", "100 ms"),
    }


async def _prepare(stage: Stage) -> None:
    vault = await stage.control.create_vault(VAULT, purge_protection=True)
    await stage.control.create_key(VAULT, KEY, size=2048)
    await stage.control.grant(VAULT)
    scene = Scene(stage)
    (stage.directory / "bench.yaml").write_text(ACCOUNT.format(base=BASE, tenant=vault["tenant"], vault=VAULT, key=KEY))
    await _must(scene, "accounts", "apply", "-f", str(stage.directory / "bench.yaml"))
    settings = stage.directory / "byokd.toml"
    settings.write_text(settings.read_text().replace(*CHECKS))
    await _must(scene, "reload")
    await asyncio.sleep(2.5)  # the polls that were due already


async def _must(scene: Scene, *arguments: str) -> None:
    code, text = await scene.byokd(*arguments)
    if code:
        raise RuntimeError(text)


async def _round(stage: Stage, session: aiohttp.ClientSession, url: str, secret: str, number: int) -> float:
    """Give the seconds from the delivery to the event."""
    mark = stage.watcher.mark()
    await stage.control.rotate_key(VAULT, KEY)
    begun = time.perf_counter()
    async with session.post(url, json=[_event(number)], headers={"x-byokd-secret": secret}) as answer:
        answer.raise_for_status()
    came = await stage.watcher.until(
        lambda: bool(stage.watcher.events(since=mark, event_type=VERSION_DETECTED)), seconds=PATIENCE_SECONDS
    )
    if came is None:
        raise RuntimeError("no event came")
    return time.perf_counter() - begun


def _event(number: int) -> dict[str, Any]:
    data = {"VaultName": VAULT, "ObjectType": "Key", "ObjectName": KEY}
    return {"id": f"bench-{number}", "eventType": "Microsoft.KeyVault.KeyNewVersionCreated", "data": data}


async def _vault_seconds(stage: Stage) -> float:
    found = await stage.service.metric("byokd_check_duration_seconds_sum")
    return found or 0.0


def _figure(values: list[float], value: float, unit: str, against: str) -> dict[str, object]:
    return {
        "value": value * 1000,
        "unit": unit,
        "against": against,
        "runs": len(values),
        "min": min(values) * 1000,
        "max": max(values) * 1000,
    }
