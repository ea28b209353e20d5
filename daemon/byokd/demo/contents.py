"""The steps about what an account key protects: a content key, and who can still read it once the customer revokes."""

import base64
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from byokd.demo.scene import EVERYONE, PATIENCE, Said, Scene, Seen, Step
from byokd.demo.watcher import Heard

ACCOUNT = "contoso"
_NAMED = (ACCOUNT, "--kind", "content-key", "--name", "film")


class Contents:
    """One content key of one account."""

    def __init__(self, scene: Scene) -> None:
        """Take the scene; the content key is made here."""
        self._scene = scene
        self._content = secrets.token_bytes(16)

    def protecting(self) -> Sequence[Step]:
        """Give the step after which there is a protected value."""
        return (
            Step(
                "protect",
                "a content key of contoso's is protected with its account key, and revealed",
                "the same bytes come back, and they are neither in the daemon's log nor on the bus",
                self._protect,
            ),
        )

    def dropping(self) -> Sequence[Step]:
        """Give the step that shows promise 4: no use after revocation."""
        return (
            Step(
                "plaintext-dropped",
                "the content key is revealed; the customer disables the key, and enables it again",
                "at the first denial, before anybody is Inaccessible, the account key is dropped from memory; "
                "until the key is back the content key is not revealed",
                self._drop,
            ),
        )

    async def opens(self) -> bool:
        """Tell whether the content key is revealed as it was protected."""
        said = await self._reveal()
        return (said.code, said.out) == (0, self._content)

    async def _protect(self) -> Seen:
        said = await self._scene.ask("accounts", "protect", *_NAMED, given=self._content)
        if said.code != 0:
            return Seen(said.err.strip(), ok=False)
        same, seen_at = await self.opens(), self._places()
        words = f"revealed: {'the same' if same else 'not the same'} {len(self._content)} bytes"
        return Seen(f"{words}; in clear {' and '.join(seen_at) or 'nowhere'}", ok=same and not seen_at)

    async def _drop(self) -> Seen:
        scene, watcher, service = self._scene, self._scene.watcher, self._scene.stage.service
        if not await self.opens() or not await service.metric("byokd_plaintext_held"):
            return Seen("the account key is not held in the clear in the first place", ok=False)
        mark, logged = watcher.mark(), service.log.stat().st_size

        def inaccessible() -> Heard | None:
            told = watcher.events(since=mark, event_type="byokd.account.inaccessible")
            return next((event for event in told if event.topic.endswith(f"/{ACCOUNT}/events")), None)

        async def is_dropped() -> bool:
            return inaccessible() is not None or self._logged("plaintext-dropped", since=logged) is not None

        begun, revoked = time.monotonic(), datetime.now(UTC)
        await scene.disable_key()
        await watcher.until_true(is_dropped, seconds=PATIENCE)
        early = await self._reveal()
        await watcher.until(lambda: inaccessible() is not None, seconds=PATIENCE)
        late, why = await self._reveal(), str(watcher.state(ACCOUNT).get("message"))
        told, closed = inaccessible(), self._logged("plaintext-dropped", since=logged)
        suspected = self._logged("denial-suspected", since=logged)
        await scene.enable_key()
        back = await watcher.until(lambda: scene.all_in("Accessible", EVERYONE), seconds=PATIENCE)
        again = back is not None and await self.opens()
        refused = early.code == 1 and late.code == 1 and why in late.err and not early.out + late.out
        if told is None or closed is None or suspected is None:
            missing = "Inaccessible was not heard" if told is None else "the account key was not dropped"
            return Seen(f"{missing} within {PATIENCE:.0f} s of the revocation", ok=False)
        dropped_after, told_after = _time(closed) - revoked, told.at - begun
        first = _time(closed) <= _time(suspected) and dropped_after.total_seconds() < told_after
        words = (
            f"dropped {dropped_after.total_seconds():.1f} s after the revocation{'' if first else ', too late'}, "
            f"Inaccessible after {told_after:.1f} s; {_refusal(late, refused=refused)}; "
            f"{'revealed again' if again else 'not revealed again'}"
        )
        return Seen(words, ok=first and refused and again)

    async def _reveal(self) -> Said:
        return await self._scene.ask("accounts", "reveal", *_NAMED)

    def _logged(self, event: str, *, since: int) -> dict[str, Any] | None:
        """Give what the daemon logged of that about the version that wraps the account key."""
        version = self._scene.current(ACCOUNT)
        logged = self._scene.stage.service.logged(since=since)
        return next((line for line in logged if line.get("event") == event and line.get("key") == version), None)

    def _places(self) -> list[str]:
        """Give where the content key is to be read in clear."""
        forms = (
            self._content,
            self._content.hex().encode(),
            base64.b64encode(self._content),
            base64.urlsafe_b64encode(self._content),
            repr(self._content)[2:-1].encode(),
        )
        heard = "".join(str(one.event) for one in self._scene.watcher.heard).encode()
        places = {"in the log": self._scene.stage.service.log.read_bytes(), "on the bus": heard}
        return [place for place, said in places.items() if any(form in said for form in forms)]


def _refusal(said: Said, *, refused: bool) -> str:
    reason = said.err.partition("\n")[0].removeprefix("error: ")
    return f"refused: {reason}" if refused else f"not refused as it should be: {reason or 'no error'}"


def _time(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["time"])
