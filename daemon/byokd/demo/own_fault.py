"""The step in which the platform's own credential breaks: no customer's doing, and no customer's loss."""

import asyncio
from collections.abc import Sequence

from byokd.demo.scene import EVERYONE, PATIENCE, VAULT, Scene, Seen, Step, after

ENGAGED, RELEASED = "byokd.service.brake-engaged", "byokd.service.brake-released"

OTHERS = ("adatum", "proseware")
"""Two more customers for this step alone: two of anything are no reason to suspect ourselves."""

ENTRY = """\
  - id: {account}
    tenant: {tenant}
    location: westeurope
    encryption: {{type: CustomerKey, identity: platform, keyIdentifier: "{key}"}}
"""


class OwnFault:
    """The brake, engaged by what the vaults answer and released by the same."""

    def __init__(self, scene: Scene) -> None:
        """Take the scene."""
        self._scene = scene
        self._vaults = (VAULT, *(f"{name}-keys" for name in OTHERS))

    def breaking(self, base: str) -> Sequence[Step]:
        """Give the step; `base` is what the accounts' ids begin with."""
        return (
            Step(
                "own-credential-breaks",
                "our own credential loses its rights in three customers' vaults at once, and gets them back",
                "the brake holds: nobody becomes Inaccessible; mended, it lets go by itself",
                lambda: self._break(base),
            ),
        )

    async def _break(self, base: str) -> Seen:
        if (said := await self._register(base)) is not None:
            return Seen(said, ok=False)
        watcher, control, mark = self._scene.watcher, self._scene.control, self._scene.watcher.mark()
        for vault in self._vaults:
            await control.revoke(vault)
        engaged = await watcher.until(lambda: bool(watcher.events(since=mark, event_type=ENGAGED)), seconds=PATIENCE)
        held = await watcher.until_true(self._holds_all, seconds=PATIENCE)
        for vault in self._vaults:
            await control.grant(vault)
        gone = await watcher.until(lambda: bool(watcher.events(since=mark, event_type=RELEASED)), seconds=PATIENCE)
        lost = watcher.events(since=mark, event_type="byokd.account.inaccessible")
        causes = [event.data["cause"] for event in watcher.events(since=mark, event_type=RELEASED)]
        await asyncio.gather(*(self._scene.byokd("accounts", "delete", name) for name in OTHERS))
        words = (
            f"engaged{after(engaged)}, {'all held' if held is not None else 'not all held'}, {len(lost)} Inaccessible; "
            f"released by {', '.join(causes) or 'nobody'}{after(gone)}"
        )
        ok = None not in {engaged, held, gone} and not lost and causes == ["proof"]
        return Seen(words, ok=ok and self._scene.all_in("Accessible", EVERYONE))

    async def _register(self, base: str) -> str | None:
        """Register the other customers; give what went wrong."""
        entries = "accounts:\n"
        for name, vault in zip(OTHERS, self._vaults[1:], strict=True):
            made = await self._scene.control.create_vault(vault, purge_protection=True)
            await self._scene.control.create_key(vault, "media", size=2048)
            await self._scene.control.grant(vault)
            key = f"{made['url']}/keys/media"
            entries += ENTRY.format(account=f"{base}/{name}", tenant=made["tenant"], key=key)
        path = self._scene.stage.directory / "others.yaml"
        path.write_text(entries)
        code, text = await self._scene.byokd("accounts", "apply", "-f", str(path))
        return None if code == 0 else text.strip()

    async def _holds_all(self) -> bool:
        """Whether all keys are held, with their former versions: contoso's, northwind's pinned one, the others'."""
        numbers = (await self._scene.stage.service.ask("/status"))["numbers"]
        held = int(numbers["heldVersions"])
        return held >= 2 + len(OTHERS) and held == numbers["suspectedVersions"]
