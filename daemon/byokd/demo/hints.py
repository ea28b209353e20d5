"""The step in which Azure itself tells of a change: noticed long before the next poll."""

import asyncio
import signal
from collections.abc import Sequence

from byokd.demo.scene import CUSTOMERS, EVERYONE, KEY, PATIENCE, VAULT, Scene, Seen, Step, after
from byokd.demo.stage import DELIVERY_FILE

OFTEN, SELDOM = 'interval = "1 s"', 'interval = "10 min"'
QUIET_SECONDS = 1.3
"""A poll at the shorter interval, which was due already, and a little: from then on the longer one is kept."""

SOON_SECONDS = 1.0
SUBSCRIPTION = "byokd"
RELOADS = ("reloaded", "reload-refused")
PATH = "/events/keyvault"


class Hints:
    """An event subscription of the customer's vault that delivers to the daemon."""

    def __init__(self, scene: Scene) -> None:
        """Take the scene."""
        self._scene = scene

    def steps(self) -> Sequence[Step]:
        """Give the step."""
        return (
            Step(
                "event-grid",
                "keys are polled every ten minutes only, the customer makes a new version, and Event Grid tells of it",
                "contoso and fabrikam are rewrapped within a second, because of the hint",
                self._hint,
            ),
        )

    async def _hint(self) -> Seen:
        stage, watcher, control = self._scene.stage, self._scene.watcher, self._scene.control
        if (said := await self._reload(OFTEN, SELDOM)) is not None:
            return Seen(said, ok=False)
        status = await stage.service.ask("/status")
        secret = (stage.directory / DELIVERY_FILE).read_text()
        await control.create_subscription(
            VAULT, SUBSCRIPTION, f"http://{status['eventGrid']}{PATH}", headers={"x-byokd-secret": secret}
        )
        await asyncio.sleep(QUIET_SECONDS)
        mark = watcher.mark()
        newest = (await control.rotate_key(VAULT, KEY))["newest"]
        moved = await watcher.until(
            lambda: all(self._scene.current(name).endswith(newest) for name in CUSTOMERS[:2]), seconds=PATIENCE
        )
        told = watcher.events(since=mark, event_type="byokd.key.version-detected")
        detected_by = ", ".join(sorted({str(event.data.get("detectedBy")) for event in told})) or "nobody"
        await control.delete_subscription(VAULT, SUBSCRIPTION)
        said = await self._reload(SELDOM, OFTEN)
        words = said or f"rewrapped{after(moved)}, detected by: {detected_by}"
        ok = said is None and moved is not None and moved < SOON_SECONDS and detected_by == "hint"
        return Seen(words, ok=ok and self._scene.all_in("Accessible", EVERYONE))

    async def _reload(self, before: str, now: str) -> str | None:
        """Change a setting while the daemon runs; give what was said if it was not taken."""
        stage = self._scene.stage
        settings, begun = stage.directory / "byokd.toml", stage.service.log.stat().st_size
        settings.write_text(settings.read_text().replace(before, now))
        stage.daemon.send_signal(signal.SIGHUP)

        def outcome() -> list[str]:
            return [line["event"] for line in stage.service.logged(since=begun) if line["event"] in RELOADS]

        took = await self._scene.watcher.until_true(lambda: _given(outcome()), seconds=PATIENCE)
        return None if took is not None and outcome() == [RELOADS[0]] else "the settings were not taken"


async def _given(found: list[str]) -> bool:
    return bool(found)
