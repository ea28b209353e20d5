"""The steps with a customer of another tenant: an application that it lets in, and a managed identity behind that."""

from collections.abc import Sequence
from typing import Final

from byokd.demo.scene import EVERYONE, KEY, PATIENCE, Scene, Seen, Step, after
from byokd.demo.stage import APPLICATION, BEHIND
from byokd.emulator.principals import stable_id
from byokd.emulator.world import HOME_TENANT

CUSTOMER, VAULT = "litware", "litware-keys"
TENANT: Final = stable_id("tenant", CUSTOMER)

TOKEN_SECONDS, TOKEN_SECONDS_BEFORE = 2, {"application": 3_599, "identity": 86_399}
"""So short a life that what is not given any more shows at once."""

ENTRY = """\
accounts:
  - id: {account}
    tenant: {tenant}
    location: westeurope
    encryption: {{type: CustomerKey, identity: vendor, keyIdentifier: "{key}"}}
"""


class Tenants:
    """A cross-tenant account, and what becomes of it when its tokens cannot be had."""

    def __init__(self, scene: Scene) -> None:
        """Take the scene."""
        self._scene = scene

    def steps(self, base: str) -> Sequence[Step]:
        """Give the steps; `base` is what the accounts' ids begin with."""
        return (
            Step(
                "cross-tenant",
                "a customer of another tenant lets our application in, grants it on its vault and is registered",
                "its account is Accessible, by tokens of its own tenant and no secret",
                lambda: self._register(base),
            ),
            Step(
                "identity-away",
                "the user-assigned identity behind that application is taken from the machine, and given back",
                "our own trouble: the account cannot be verified meanwhile, and nobody becomes Inaccessible",
                self._take_away,
            ),
            Step(
                "consent-withdrawn",
                "the customer's tenant throws our application out, and lets it in again",
                "its account is Inaccessible (ConsentWithdrawn), and Accessible again by itself",
                self._throw_out,
            ),
        )

    async def _register(self, base: str) -> Seen:
        control, watcher = self._scene.control, self._scene.watcher
        behind = await control.create_identity(BEHIND)
        trusted = {
            "issuer": f"https://login.microsoftonline.com/{HOME_TENANT}/v2.0",
            "subject": behind["object_id"],
        }
        await control.create_application(APPLICATION, federations=[trusted], consented=[TENANT])
        await control.set_token_seconds(application=TOKEN_SECONDS, identity=TOKEN_SECONDS)
        vault = await control.create_vault(VAULT, tenant=TENANT, purge_protection=True)
        await control.create_key(VAULT, KEY, size=2048)
        await control.grant(VAULT, principal=APPLICATION)
        path = self._scene.stage.directory / "another-tenant.yaml"
        path.write_text(ENTRY.format(account=f"{base}/{CUSTOMER}", tenant=TENANT, key=f"{vault['url']}/keys/{KEY}"))
        code, text = await self._scene.byokd("accounts", "apply", "-f", str(path))
        if code != 0:
            return Seen(text.strip(), ok=False)
        took = await watcher.until(lambda: self._is("Accessible"), seconds=PATIENCE)
        return Seen(f"{CUSTOMER} {self._state()}{after(took)}", ok=took is not None)

    async def _take_away(self) -> Seen:
        control, mark = self._scene.control, self._scene.watcher.mark()
        await control.detach_identity(BEHIND)
        noticed = await self._scene.watcher.until_true(self._is_unverified, seconds=PATIENCE)
        lost = self._scene.watcher.events(since=mark, event_type="byokd.account.inaccessible")
        await control.attach_identity(BEHIND)
        back = await self._scene.watcher.until_true(self._is_verified, seconds=PATIENCE)
        words = f"unverified{after(noticed)}, {len(lost)} Inaccessible; verified{after(back)}"
        ok = None not in {noticed, back} and not lost and self._scene.all_in("Accessible", (*EVERYONE, CUSTOMER))
        return Seen(words, ok=ok)

    async def _throw_out(self) -> Seen:
        control, watcher = self._scene.control, self._scene.watcher
        await control.change_application(APPLICATION, withdraw=TENANT)
        gone = await watcher.until(lambda: self._is("Inaccessible"), seconds=PATIENCE)
        reason, others = watcher.state(CUSTOMER).get("reason"), self._scene.all_in("Accessible", EVERYONE)
        await control.change_application(APPLICATION, consent=TENANT)
        back = await watcher.until(lambda: self._is("Accessible"), seconds=PATIENCE)
        await self._scene.byokd("accounts", "delete", CUSTOMER)
        await control.set_token_seconds(**TOKEN_SECONDS_BEFORE)
        words = f"Inaccessible ({reason}){after(gone)}, Accessible{after(back)}"
        return Seen(words, ok=None not in {gone, back} and reason == "ConsentWithdrawn" and others)

    def _state(self) -> str:
        return str(self._scene.watcher.state(CUSTOMER).get("state"))

    def _is(self, state: str) -> bool:
        return self._state() == state

    async def _is_unverified(self) -> bool:
        return await self._condition() == "unverified"

    async def _is_verified(self) -> bool:
        return await self._condition() == "healthy"

    async def _condition(self) -> str:
        explained = await self._scene.stage.service.ask(f"/account/explain?ref={CUSTOMER}")
        return str(explained["condition"])
