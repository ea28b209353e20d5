"""The story: what a customer does, what must follow, and what the independent subscriber saw."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from byokd.demo.processes import byokd_command
from byokd.demo.stage import Stage
from byokd.emulator.vocabulary import FaultKind

SUBSCRIPTION = "3f0c2f8e-0000-4000-8000-00000000d0d0"
CUSTOMERS = ("contoso", "fabrikam", "northwind")
"""Two accounts on one versionless key, and one pinned to its first version."""

EVERYONE = (*CUSTOMERS, "ownkey")
PATIENCE = 12.0
"""Seconds to wait for what must happen; with the demo's intervals it takes two or three."""

CALM = 4.0
"""Seconds to watch that nothing happens: several checks and confirmations long."""

MANIFEST = """\
accounts:
  - &customer
    id: {base}/contoso
    tenant: {tenant}
    location: westeurope
    encryption: {{type: CustomerKey, identity: platform, keyIdentifier: "{key}"}}
  - <<: *customer
    id: {base}/fabrikam
  - <<: *customer
    id: {base}/northwind
    encryption: {{type: CustomerKey, identity: platform, keyIdentifier: "{pinned}"}}
  - <<: *customer
    id: {base}/ownkey
    encryption: {{type: SystemKey}}
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a step."""

    words: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, what happens in plain words, what must follow, and how to do and judge it."""

    name: str
    happens: str
    expected: str
    play: Callable[[], Awaitable[Seen]]


class Story:
    """The steps, in order, over one stage."""

    def __init__(self, stage: Stage) -> None:
        """Take the stage; the story makes its own vault and accounts."""
        self._stage = stage
        self._watcher = stage.watcher
        self._control = stage.control
        self._tenant = self._first_version = ""

    @property
    def steps(self) -> Sequence[Step]:
        """The steps."""
        return (*self._beginning(), *self._revocations(), *self._troubles(), *self._ending())

    async def prepare(self) -> list[str]:
        """Make the customer's vault, key and grant; give the vaults' URLs."""
        vault = await self._control.create_vault("contoso-keys", purge_protection=True)
        key = await self._control.create_key("contoso-keys", "media", size=2048)
        await self._control.grant("contoso-keys")
        self._tenant, self._first_version = vault["tenant"], key["newest"]
        return [vault["url"]]

    def _beginning(self) -> Sequence[Step]:
        return (
            Step(
                "register",
                "four accounts are registered: two on one versionless key, one pinned to a version, one without a key",
                "all four are Accessible",
                self._register,
            ),
            Step("register-again", "the same file is applied again", "nothing changes, nothing is said", self._again),
            Step(
                "rotate",
                "the customer makes a new version of the key",
                "contoso and fabrikam are rewrapped with it, northwind stays on its version",
                self._rotate,
            ),
        )

    def _revocations(self) -> Sequence[Step]:
        control = self._control
        return (
            self._loss("disable-key", "the customer disables the key", "KeyDisabled", self._disable),
            self._return("enable-key", "the customer enables the key", self._enable),
            self._loss(
                "remove-role", "the customer removes our role", "AccessDenied", lambda: control.revoke("contoso-keys")
            ),
            self._return("grant-role", "the customer grants it again", lambda: control.grant("contoso-keys")),
            self._loss(
                "delete-key",
                "the customer deletes the key",
                "KeyNotFound",
                lambda: control.delete_key("contoso-keys", "media"),
            ),
            self._return(
                "recover-key", "the customer recovers the key", lambda: control.recover_key("contoso-keys", "media")
            ),
        )

    def _troubles(self) -> Sequence[Step]:
        calm = "nobody becomes Inaccessible, and checks go on afterwards"
        return (
            Step("odd-answer", "the vault refuses once by mistake", calm, self._odd_answer),
            Step("throttling", "the vault throttles every call (429)", calm, self._throttling),
            Step("vault-fails", "the vault fails: 500, 503, resets, hanging calls", calm, self._failing),
        )

    def _ending(self) -> Sequence[Step]:
        return (
            Step(
                "rotate-again",
                "the customer makes yet another version",
                "contoso and fabrikam are rewrapped with it, northwind stays on its version",
                self._rotate,
            ),
            Step(
                "delete-account",
                "fabrikam's account is deleted",
                "its deletion is published and its retained state emptied",
                self._delete_account,
            ),
            Step(
                "reconcile",
                "the subscriber compares what it was told with the daemon's own list",
                "the same states, and no gap in any account's sequence",
                self._reconcile,
            ),
        )

    def _loss(self, name: str, happens: str, reason: str, act: Callable[[], Awaitable[object]]) -> Step:
        async def play() -> Seen:
            mark = self._watcher.mark()
            await act()
            return await self._inaccessible(reason, mark)

        expected = f"the customer's three accounts are Inaccessible ({reason}), the fourth is not"
        return Step(name, happens, expected, play)

    def _return(self, name: str, happens: str, act: Callable[[], Awaitable[object]]) -> Step:
        async def play() -> Seen:
            await act()
            took = await self._watcher.until(lambda: self._all_in("Accessible", EVERYONE), seconds=PATIENCE)
            return self._outcome(took, "all four Accessible")

        return Step(name, happens, "all four are Accessible by themselves", play)

    async def _register(self) -> Seen:
        base = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers/Microsoft.Media/mediaservices"
        key = "https://contoso-keys.vault.azure.net/keys/media"
        manifest = MANIFEST.format(base=base, tenant=self._tenant, key=key, pinned=f"{key}/{self._first_version}")
        (self._stage.directory / "accounts.yaml").write_text(manifest)
        code, text = await self._byokd("accounts", "apply", "-f", str(self._stage.directory / "accounts.yaml"))
        if code != 0:
            return Seen(text.strip(), ok=False)
        took = await self._watcher.until(lambda: self._all_in("Accessible", EVERYONE), seconds=PATIENCE)
        return self._outcome(took, "all four Accessible")

    async def _again(self) -> Seen:
        mark = self._watcher.mark()
        code, text = await self._byokd(
            "accounts", "apply", "--json", "-f", str(self._stage.directory / "accounts.yaml")
        )
        actions = [result["action"] for result in json.loads(text)["results"]] if code == 0 else []
        quiet = self._watcher.mark() == mark
        words = f"{actions.count('unchanged')} unchanged, {self._watcher.mark() - mark} messages"
        return Seen(words, ok=actions == ["unchanged"] * 4 and quiet)

    async def _rotate(self) -> Seen:
        mark = self._watcher.mark()
        newest = (await self._control.rotate_key("contoso-keys", "media"))["newest"]

        def moved() -> bool:
            return all(self._current(name).endswith(newest) for name in CUSTOMERS[:2])

        took = await self._watcher.until(moved, seconds=PATIENCE)
        events = self._watcher.events(since=mark, event_type="byokd.accountkey.rewrapped")
        names = sorted(event.topic.split("/")[-2] for event in events)
        pinned = self._current("northwind").endswith(self._first_version)
        ok = took is not None and names == list(CUSTOMERS[:2]) and pinned and self._all_in("Accessible", EVERYONE)
        return Seen(
            f"rewrapped: {', '.join(names) or 'nobody'}{_after(took)}; northwind {'stayed' if pinned else 'moved'}", ok
        )

    async def _disable(self) -> None:
        await self._control.disable_key("contoso-keys", "media", "all")

    async def _enable(self) -> None:
        await self._control.enable_key("contoso-keys", "media", "all")

    async def _inaccessible(self, reason: str, mark: int) -> Seen:
        def closed() -> bool:
            states = [self._watcher.state(name) for name in CUSTOMERS]
            return all(state.get("state") == "Inaccessible" and state.get("reason") == reason for state in states)

        took = await self._watcher.until(closed, seconds=PATIENCE)
        events = self._watcher.events(since=mark, event_type="byokd.account.inaccessible")
        reasons = sorted({str(event.data.get("reason")) for event in events})
        ok = took is not None and len(events) == len(CUSTOMERS) and self._all_in("Accessible", ("ownkey",))
        return Seen(f"{len(events)} accounts Inaccessible ({', '.join(reasons) or '-'}){_after(took)}", ok)

    async def _odd_answer(self) -> Seen:
        await self._control.set_fault(
            "contoso-keys",
            FaultKind.ANSWER,
            status=403,
            code="Forbidden",
            inner="ForbiddenByRbac",
            operations=["unwrapKey"],
            count=1,
        )
        return await self._calm({403}, "refused calls")

    async def _throttling(self) -> Seen:
        await self._control.set_fault("contoso-keys", FaultKind.THROTTLE)
        return await self._calm({429}, "throttled calls")

    async def _failing(self) -> Seen:
        for kind in (FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE, FaultKind.RESET, FaultKind.HANG):
            await self._control.set_fault("contoso-keys", kind, share=0.5)
        return await self._calm({0, 500, 503}, "failed calls")

    async def _calm(self, statuses: set[int], what: str) -> Seen:
        """Let trouble be for a while; then end it, and wait until the daemon has checked successfully again."""
        mark = self._watcher.mark()
        await self._control.reset_calls()
        await asyncio.sleep(CALM)
        calls = await self._control.calls()
        met = sum(call["count"] for call in calls if call["status"] in statuses)
        await self._control.clear_faults(target="contoso-keys")
        await self._control.reset_calls()
        again = await self._checked_again()
        lost = self._watcher.events(since=mark, event_type="byokd.account.inaccessible")
        words = (
            f"{met} {what} in {CALM:.0f} s, {len(lost)} accounts Inaccessible, checks {'go on' if again else 'stopped'}"
        )
        return Seen(words, ok=met > 0 and not lost and again and self._all_in("Accessible", EVERYONE))

    async def _checked_again(self) -> bool:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            calls = await self._control.calls()
            if any(call["operation"] == "unwrapKey" and call["status"] == 200 for call in calls):  # noqa: PLR2004
                return True
            await asyncio.sleep(0.1)
        return False

    async def _delete_account(self) -> Seen:
        mark = self._watcher.mark()
        code, text = await self._byokd("accounts", "delete", "fabrikam")
        if code != 0:
            return Seen(text.strip(), ok=False)

        def gone() -> bool:
            told = self._watcher.events(since=mark, event_type="byokd.account.deleted")
            return len(told) == 1 and self._watcher.states["fabrikam"].event is None

        took = await self._watcher.until(gone, seconds=PATIENCE)
        return self._outcome(took, "deleted, retained state emptied")

    async def _reconcile(self) -> Seen:
        _, text = await self._byokd("accounts", "list", "--json")
        listed = {account["name"]: account["state"] for account in json.loads(text)}
        told = {name: heard.data["state"] for name, heard in self._watcher.states.items() if heard.event is not None}
        gaps = 0
        for name in EVERYONE:
            sequences = [
                heard.data["sequence"] for heard in self._watcher.heard if heard.topic.endswith(f"/{name}/events")
            ]
            gaps += sequences != list(range(1, len(sequences) + 1))
        events = sum(heard.topic.endswith("/events") for heard in self._watcher.heard)
        return Seen(f"{len(told)} states alike, {events} events, {gaps} gaps", ok=listed == told and not gaps)

    def _all_in(self, state: str, names: Sequence[str]) -> bool:
        return all(self._watcher.state(name).get("state") == state for name in names)

    def _current(self, name: str) -> str:
        return str(self._watcher.state(name).get("currentKeyIdentifier"))

    def _outcome(self, took: float | None, words: str) -> Seen:
        if took is not None:
            return Seen(f"{words}{_after(took)}", ok=True)
        states = ", ".join(f"{name} {self._watcher.state(name).get('state')}" for name in EVERYONE)
        return Seen(f"not within {PATIENCE:.0f} s: {states}", ok=False)

    async def _byokd(self, *arguments: str) -> tuple[int, str]:
        """Run a verb as a user would."""
        process = await asyncio.create_subprocess_exec(
            *byokd_command(*arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | self._stage.environment,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()


def _after(took: float | None) -> str:
    return "" if took is None else f" after {took:.1f} s"
