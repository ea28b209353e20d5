"""One customer's vault, one database with its daemon, and what the customer and the operator do to them."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from byokd.demo.stage import make_service_keys
from byokd.runtime.account_keys import AccountKeys
from byokd.runtime.configuration import read_settings
from byokd.runtime.wiring import wire
from byokd.settings import Settings
from kills.daemons import Daemon
from kills.databases import Database, Databases
from kills.management import PATIENCE_SECONDS, POLL_SECONDS, Management
from kills.protecting import Values
from kills.site import Site
from kills.verifying import Keys
from parts.leaks import said
from parts.subscriber import Subscriber, subscriber

BASE = (
    "/subscriptions/3f0c2f8e-0000-4000-8000-00000000d0d0/resourceGroups/kills/providers/Microsoft.Media/mediaservices"
)
SYSTEM = "system"
EVER = {"since": "1d", "live": "false"}
"""So far back that there always is something, whatever was played before."""

SETTINGS = """\
[service]
instance = "kills"
socket = "{directory}/api.sock"
reveal_uids = [{uid}]
[store]
url = "{database}"
audit_interval = "300 ms"
[network]
ca_file = "{ca}"
connect_to = {{ "*.vault.azure.net" = "{tls}" }}
[identities.platform]
kind = "managed-identity"
[checks]
interval = "300 ms"
jitter = 0.0
deadline = "5 s"
confirm_after = "100 ms"
recheck_first = "100 ms"
recheck_most = "200 ms"
vault_backoff_first = "100 ms"
vault_backoff_most = "200 ms"
[rewrap]
settle = "200 ms"
retry_first = "100 ms"
retry_most = "300 ms"
[service_keys]
directory = "{directory}/keys"
[mqtt]
url = "mqtt://{broker}"
topic_prefix = "{prefix}"
reconnect_first = "100 ms"
[http]
listen = "127.0.0.1:0"
"""


@dataclass(slots=True)
class World:
    """Everything that one daemon knows of, and what it should make of it.

    Attributes:
        wanted: the key of each account that should be there: its name in the vault, or SYSTEM; with `/pinned` the
            version that it had at the beginning.
        newest: the newest version of each key, by the key's name.
        disabled: keys that the customer has disabled.
        closed: keys that the vault refuses, which counts for nothing because the brake holds it.
        values: what the accounts protect.
        quiet: held while somebody looks at a dead daemon's database; the customer waits so long.
        broken: something was found missing here.
    """

    name: str
    prefix: str
    tenant: str
    site: Site
    database: Database
    daemon: Daemon
    subscriber: Subscriber
    keys: Keys
    management: Management
    values: Values
    settings: Settings
    stack: AsyncExitStack
    wanted: dict[str, str] = field(default_factory=dict)
    newest: dict[str, str] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    quiet: asyncio.Lock = field(default_factory=asyncio.Lock)
    broken: bool = False
    service_keys: int = 1

    async def make_key(self, key: str) -> None:
        made = await self.site.control.create_key(self.name, key)
        self.newest[key] = self.first[key] = made["newest"]

    async def rotate(self, key: str) -> None:
        async with self.quiet:
            self.newest[key] = (await self.site.control.rotate_key(self.name, key))["newest"]

    async def disable(self, key: str) -> None:
        async with self.quiet:
            await self.site.control.disable_key(self.name, key)
            self.disabled.add(key)

    async def enable(self, key: str) -> None:
        async with self.quiet:
            await self.site.control.enable_key(self.name, key)
            self.disabled.discard(key)

    async def shut_out(self) -> None:
        """Take all rights to the vault away."""
        async with self.quiet:
            await self.site.control.revoke(self.name)
            self.closed |= self.newest.keys()

    async def let_in(self) -> None:
        """Give the rights back."""
        async with self.quiet:
            await self.site.control.grant(self.name)
            self.closed.clear()

    async def brake(self, verb: str) -> None:
        """Order the brake."""
        await self.management.insist("POST", f"/brake/{verb}", json={"message": "a drill"})

    async def held(self) -> None:
        """Wait until the brake holds denials, and say why they are there."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                status, brake = await self.management.call("GET", "/brake")
                if status == 200 and brake["held"]:
                    break
                await asyncio.sleep(POLL_SECONDS)
        await self.management.insist("GET", "/account/explain", params={"ref": next(iter(self.wanted))})

    async def stumble(self) -> None:
        """Let the vault fail now and then to wrap, for a while."""
        await self.site.control.set_fault(self.name, "server_error", operations=["wrapKey"], share=0.5, count=3)

    async def apply(self, account: str, key: str) -> None:
        """Register or change an account, as often as it takes: an operator does not give up over a restart."""
        self.wanted[account] = key
        request = {"format": "toml", "text": self._manifest(account, key)}
        await self.management.insist("POST", "/accounts/apply", json=request)

    async def delete(self, account: str) -> None:
        self.wanted.pop(account, None)
        self.values.leaves(account)
        await self.management.insist("DELETE", "/account", params={"ref": f"{BASE}/{account}"})
        self.values.left(account)

    async def as_wanted(self) -> None:
        """Wait until the daemon says of every account what it should."""
        shown = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (shown := await self._shown()) != self.expected():  # noqa: ASYNC110 - another process's
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{shown} is shown, {self.expected()} was to come\n{self.daemon.log()}") from None

    def expected(self) -> dict[str, tuple[str, str | None]]:
        """Give the state and the key version that each account should have."""
        return {account: (self._state(key), self._version(key)) for account, key in self.wanted.items()}

    async def add_service_keys(self) -> None:
        """Put a newer storage key and system key there; the daemon takes them at its next start."""
        self.service_keys += 1
        for kind in ("storage", "system"):
            path = self.daemon.directory / "keys" / f"{kind}.{self.service_keys}.key"
            path.touch(0o600)
            path.write_bytes(secrets.token_bytes(32))
        self.keys.account_keys = await _account_keys(self.settings, self.stack)

    async def seal_anew(self) -> None:
        """Order a rotation, and wait until everything is under the newest keys."""
        newest = {"storage": str(self.service_keys), "system": str(self.service_keys)}
        await self.management.insist("POST", "/keys/rotate")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                status, ring = await self.management.call("GET", "/keys")
                if status == 200 and ring["rotation"]["endedAt"] is not None:
                    break
                await asyncio.sleep(POLL_SECONDS)
        assert ring["rotation"]["stuck"] == 0
        for use in ring["uses"]:
            assert use["storage_key"] == newest["storage"]
            assert use["system_key"] in (None, newest["system"])

    async def verified(self) -> None:
        """Let the daemon itself prove that all opens: `byokd keys verify`."""
        last = (await self.management.lines("POST", "/keys/verify"))[-1]
        proofs = last["proofs"]
        assert last["done"]
        assert proofs.pop("opens") >= len(self.wanted)
        assert not any(proofs.values()), proofs

    async def watched(self) -> None:
        """Look back as `byokd watch --since` does: what was committed is shown, and in order."""
        numbers = [one["number"] for one in await self.management.lines("GET", "/events", params=EVER)]
        assert numbers
        assert numbers == sorted(numbers)

    async def kill(self) -> None:
        """End the daemon from outside."""
        self.daemon.kill(signal.SIGKILL)
        await self.daemon.death()

    def _state(self, key: str) -> str:
        return "Inaccessible" if key.partition("/")[0] in self.disabled else "Accessible"

    def _version(self, key: str) -> str | None:
        name, _, pinned = key.partition("/")
        if name == SYSTEM:
            return None
        return f"{self._url(name)}/{self.first[name] if pinned else self.newest[name]}"

    def _url(self, key: str) -> str:
        return f"https://{self.name}.vault.azure.net/keys/{key}"

    def _manifest(self, account: str, key: str) -> str:
        name, _, pinned = key.partition("/")
        url = self._url(name) + (f"/{self.first[name]}" if pinned else "")
        customer = f'type = "CustomerKey", identity = "platform", keyIdentifier = "{url}"'
        encryption = 'type = "SystemKey"' if name == SYSTEM else customer
        return (
            f'[[accounts]]\nid = "{BASE}/{account}"\ntenant = "{self.tenant}"\nlocation = "westeurope"\n'
            f"encryption = {{ {encryption} }}\n"
        )

    async def _shown(self) -> dict[str, tuple[str, str | None]] | None:
        status, accounts = await self.management.call("GET", "/accounts")
        if status != 200:
            return None
        return {one["name"]: (one["state"], one["encryption"]["currentKeyIdentifier"]) for one in accounts}


@asynccontextmanager
async def world(
    site: Site, databases: Databases, name: str, *, kind: str, plant: str | None = None
) -> AsyncIterator[World]:
    """Make a world with its accounts, and its daemon running."""
    directory = site.directory / name
    directory.mkdir()
    make_service_keys(directory / "keys")
    prefix = f"{name}/v1"
    vault = await site.control.create_vault(name, purge_protection=True)
    await site.control.grant(name)
    async with AsyncExitStack() as stack:
        opened = databases.new(kind, directory)
        path = directory / "byokd.toml"
        values = {"directory": directory, "database": opened.url, "prefix": prefix, "broker": site.broker}
        path.write_text(SETTINGS.format(**values, ca=site.ca, tls=site.tls, uid=os.getuid()))
        settings = read_settings(path, {})
        daemon = Daemon(site.forker, directory, site.environment, plant=plant)
        stack.callback(lambda: said.append((f"{name}/daemon.log", (directory / "daemon.log").read_text())))
        management = Management(settings.service.socket, log=daemon.log)
        made = World(
            name=name,
            prefix=prefix,
            tenant=vault["tenant"],
            site=site,
            database=opened,
            daemon=daemon,
            subscriber=await stack.enter_async_context(subscriber(site.broker, f"{prefix}/#")),
            keys=Keys(await _account_keys(settings, stack)),
            management=management,
            values=Values(management, BASE),
            settings=settings,
            stack=stack,
        )
        stack.push_async_callback(_end, made)
        for key in ("alpha", "beta", "gamma"):
            await made.make_key(key)
        await daemon.start()
        for account, key in (
            ("anna", "alpha"),
            ("abel", "alpha"),
            ("bert", "beta"),
            ("pina", "beta/pinned"),
            ("susi", SYSTEM),
        ):
            await made.apply(account, key)
        await made.values.protect("anna", "film")
        await made.values.protect("susi", "film")
        await made.as_wanted()
        yield made


async def _end(made: World) -> None:
    if made.daemon.runs:
        await made.kill()


async def _account_keys(settings: Settings, stack: AsyncExitStack) -> AccountKeys:
    """Give what opens account keys, wired as byokd does."""
    return (await wire(settings, stack)).service.rewrapper._account_keys
