"""The story: what a customer does, what must follow, and what the independent subscriber saw."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from byokd.demo.contents import Contents
from byokd.demo.hints import Hints
from byokd.demo.outages import Outages
from byokd.demo.own_fault import OwnFault
from byokd.demo.proofs import Proofs
from byokd.demo.scene import CUSTOMERS, EVERYONE, PATIENCE, Scene, Seen, Step, after
from byokd.demo.stage import Stage
from byokd.demo.tenants import Tenants
from byokd.emulator.vocabulary import FaultKind

SUBSCRIPTION = "3f0c2f8e-0000-4000-8000-00000000d0d0"
BASE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers/Microsoft.Media/mediaservices"
CALM = 3.0
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


class Story:
    """The steps, in order, over one stage."""

    def __init__(self, stage: Stage) -> None:
        """Take the stage; the story makes its own vault and accounts."""
        self._stage = stage
        self._scene = Scene(stage)
        self._outages = Outages(self._scene)
        self._own_fault = OwnFault(self._scene)
        self._tenants = Tenants(self._scene)
        self._contents = Contents(self._scene)
        self._proofs = Proofs(self._scene, self._contents)
        self._watcher = stage.watcher
        self._control = stage.control
        self._tenant = self._first_version = ""

    @property
    def steps(self) -> Sequence[Step]:
        """The steps. Those that follow a kill show that what was stored is whole: every key is opened there."""
        return (
            *self._beginning(),
            *self._revocations(),
            *self._troubles(),
            *self._own_fault.breaking(BASE),
            *self._tenants.steps(BASE),
            *Hints(self._scene).steps(),
            *self._outages.of_the_broker(),
            *self._outages.of_the_daemon(),
            *self._proofs.of_rotation(),
            *self._ending(),
            *self._proofs.of_record(),
        )

    @property
    def left_out(self) -> Mapping[str, str]:
        """Steps that cannot be played here, and why."""
        return self._outages.left_out

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
            *self._contents.protecting(),
            Step(
                "rotate",
                "the customer makes a new version of the key",
                "contoso and fabrikam are rewrapped with it, northwind stays on its version",
                self._rotate,
            ),
        )

    def _revocations(self) -> Sequence[Step]:
        control, back = self._control, self._scene.returning
        return (
            self._loss("disable-key", "the customer disables the key", "KeyDisabled", self._scene.disable_key),
            back("enable-key", "the customer enables the key", self._scene.enable_key),
            *self._contents.dropping(),
            self._loss(
                "remove-role", "the customer removes our role", "AccessDenied", lambda: control.revoke("contoso-keys")
            ),
            back("grant-role", "the customer grants it again", lambda: control.grant("contoso-keys")),
            self._loss(
                "delete-key",
                "the customer deletes the key",
                "KeyNotFound",
                lambda: control.delete_key("contoso-keys", "media"),
            ),
            back("recover-key", "the customer recovers the key", lambda: control.recover_key("contoso-keys", "media")),
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
            *self._proofs.of_keys(),
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

    async def _register(self) -> Seen:
        key = "https://contoso-keys.vault.azure.net/keys/media"
        manifest = MANIFEST.format(base=BASE, tenant=self._tenant, key=key, pinned=f"{key}/{self._first_version}")
        (self._stage.directory / "accounts.yaml").write_text(manifest)
        code, text = await self._scene.byokd("accounts", "apply", "-f", str(self._stage.directory / "accounts.yaml"))
        if code != 0:
            return Seen(text.strip(), ok=False)
        took = await self._watcher.until(lambda: self._scene.all_in("Accessible", EVERYONE), seconds=PATIENCE)
        return self._scene.outcome(took, "all four Accessible")

    async def _again(self) -> Seen:
        mark = self._watcher.mark()
        code, text = await self._scene.byokd(
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
            return all(self._scene.current(name).endswith(newest) for name in CUSTOMERS[:2])

        took = await self._watcher.until(moved, seconds=PATIENCE)
        events = self._watcher.events(since=mark, event_type="byokd.accountkey.rewrapped")
        names = sorted(event.topic.split("/")[-2] for event in events)
        pinned = self._scene.current("northwind").endswith(self._first_version)
        ok = took is not None and names == list(CUSTOMERS[:2]) and pinned and self._scene.all_in("Accessible", EVERYONE)
        return Seen(
            f"rewrapped: {', '.join(names) or 'nobody'}{after(took)}; northwind {'stayed' if pinned else 'moved'}", ok
        )

    async def _inaccessible(self, reason: str, mark: int) -> Seen:
        def closed() -> bool:
            states = [self._watcher.state(name) for name in CUSTOMERS]
            return all(state.get("state") == "Inaccessible" and state.get("reason") == reason for state in states)

        took = await self._watcher.until(closed, seconds=PATIENCE)
        events = self._watcher.events(since=mark, event_type="byokd.account.inaccessible")
        reasons = sorted({str(event.data.get("reason")) for event in events})
        ok = took is not None and len(events) == len(CUSTOMERS) and self._scene.all_in("Accessible", ("ownkey",))
        return Seen(f"{len(events)} accounts Inaccessible ({', '.join(reasons) or '-'}){after(took)}", ok)

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
        return Seen(words, ok=met > 0 and not lost and again and self._scene.all_in("Accessible", EVERYONE))

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
        code, text = await self._scene.byokd("accounts", "delete", "fabrikam")
        if code != 0:
            return Seen(text.strip(), ok=False)

        def gone() -> bool:
            told = self._watcher.events(since=mark, event_type="byokd.account.deleted")
            return len(told) == 1 and self._watcher.states["fabrikam"].event is None

        took = await self._watcher.until(gone, seconds=PATIENCE)
        return self._scene.outcome(took, "deleted, retained state emptied")

    async def _reconcile(self) -> Seen:
        _, text = await self._scene.byokd("accounts", "list", "--json")
        listed = {account["name"]: account["state"] for account in json.loads(text)}
        told = {name: heard.data["state"] for name, heard in self._watcher.states.items() if heard.event is not None}
        gaps = self._scene.gaps()
        events = sum(heard.topic.endswith("/events") for heard in self._watcher.heard)
        return Seen(f"{len(told)} states alike, {events} events, {gaps} gaps", ok=listed == told and not gaps)
