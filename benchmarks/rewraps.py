"""How quickly one rotation reaches the accounts of one key.

All parts are real. Account keys rewrapped, against bare unwrap, wrap and unwrap by the same client, as many at once.
byokd's own limit of calls to a vault is off, which else is what decides: with the default share of Key Vault's own
limit some 30 a second.
"""

import asyncio
import time
from collections import deque
from dataclasses import replace
from functools import partial

from benchmarks.scene import KEY, Figures, Scene, figure, open_scene, running, until
from byokd.domain.vocabulary import DetectedBy

REWRAPPED = 500
"""A sample: each costs the emulator three calls, two of them with a private key."""

ROUNDS = 3


async def rewrap_rate() -> Figures:
    """Measure a rotation; give one figure."""
    async with open_scene(vaults={"quota_share": 0}) as scene:
        service = scene.wired.service
        for number in range(REWRAPPED):
            await service.registrar.apply(scene.spec(number))
        ratios = []
        for done in range(ROUNDS):
            bare = await _bare_calls(scene)
            await scene.control.rotate_key("bench-keys", "media")
            await service.checker.check(await scene.watch(), detected_by=DetectedBy.POLL)
            begun = time.perf_counter()
            async with running(service.rewrapper.run):
                await until(partial(_moved, scene, (done + 1) * REWRAPPED))
            rewrapped = time.perf_counter() - begun
            print(f"  {REWRAPPED / rewrapped:.0f} rewraps/s, bare calls for {REWRAPPED / bare:.0f}/s")
            ratios.append(bare / rewrapped)
    return {"rewrap_rate_vs_bare": figure(ratios, "rate ratio", "bare unwrap + wrap + unwrap by the same client")}


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


async def _moved(scene: Scene, wanted: int) -> bool:
    """Whether so many were rewrapped. The counter is asked, because the store would have to look at every account."""
    registry = scene.wired.service.metrics.registry
    return registry.get_sample_value("byokd_rewraps_total", {"result": "done"}) == wanted
