"""A client of the control API, for verbs, demo and tests."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack, cast
from urllib.parse import quote

import aiohttp

from byokd.emulator.client_roles import RoleCalls
from byokd.emulator.client_subscriptions import SubscriptionCalls
from byokd.emulator.documents import (
    ApplicationChange,
    ApplicationOptions,
    CallCount,
    FaultOptions,
    FaultState,
    KeyAttributes,
    KeyChange,
    KeyState,
    PrincipalState,
    VaultChange,
    VaultOptions,
    VaultState,
    WorldState,
)
from byokd.emulator.vocabulary import ENCRYPTION_USER, Dialect, FaultKind, Permission, PrincipalKind

_SECONDS = 60.0
"""The longest wait for an answer: making an RSA key of 8192 bits takes many seconds."""


class ControlError(Exception):
    """The emulator did not do it: what, why, and a hint. Status 0 means that it could not be reached."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint


class ControlClient(SubscriptionCalls, RoleCalls):
    """Speaks to the control API at `url`. Every method raises `ControlError`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def state(self) -> WorldState:
        """Everything that may be seen."""
        return cast("WorldState", await self._send("GET", "state"))

    async def calls(self) -> list[CallCount]:
        """What was asked since the start or the last reset."""
        return cast("list[CallCount]", await self._send("GET", "calls"))

    async def reset_calls(self) -> list[CallCount]:
        """Count anew; gives the counters as they were."""
        return cast("list[CallCount]", await self._send("POST", "calls/reset"))

    async def create_vault(self, name: str, **options: Unpack[VaultOptions]) -> VaultState:
        """A new vault, empty and closed to everyone."""
        return cast("VaultState", await self._send("POST", "vaults", {"name": name, **options}))

    async def vault(self, name: str) -> VaultState:
        """One vault with its keys and grants."""
        return cast("VaultState", await self._send("GET", _vault(name)))

    async def change_vault(self, name: str, **change: Unpack[VaultChange]) -> VaultState:
        """Network settings, who decides over it, what is set of it, tenant, or how long deletions take to show."""
        return cast("VaultState", await self._send("PATCH", _vault(name), change))

    async def delete_vault(self, name: str) -> VaultState:
        """Soft-delete a vault: its name leads nowhere."""
        return cast("VaultState", await self._send("DELETE", _vault(name)))

    async def recover_vault(self, name: str) -> VaultState:
        """Bring a deleted vault back."""
        return cast("VaultState", await self._send("POST", _vault(name, "recover")))

    async def purge_vault(self, name: str) -> None:
        """Drop a deleted vault for ever."""
        await self._send("POST", _vault(name, "purge"))

    async def revoke_tokens(self, vault: str) -> VaultState:
        """Let a vault refuse all tokens issued until now, by a claims challenge."""
        return cast("VaultState", await self._send("POST", _vault(vault, "revoke-tokens")))

    async def grant(
        self,
        vault: str,
        principal: str = "system",
        permissions: Sequence[Permission | str] = ENCRYPTION_USER,
        *,
        key: str | None = None,
        delay_seconds: float = 0.0,
    ) -> VaultState:
        """Give permissions; by default those of the role Crypto Service Encryption User to the system identity."""
        body = {"principal": principal, "permissions": list(permissions), "key": key, "delay_seconds": delay_seconds}
        return cast("VaultState", await self._send("POST", _vault(vault, "grant"), body))

    async def revoke(
        self,
        vault: str,
        principal: str = "system",
        permissions: Sequence[Permission | str] = tuple(Permission),
        *,
        key: str | None = None,
        delay_seconds: float = 0.0,
    ) -> VaultState:
        """Take permissions away, by default all."""
        body = {"principal": principal, "permissions": list(permissions), "key": key, "delay_seconds": delay_seconds}
        return cast("VaultState", await self._send("POST", _vault(vault, "revoke"), body))

    async def set_reader(self, vault: str, principal: str = "system", *, present: bool = True) -> VaultState:
        """Give a principal the role Reader on a vault at ARM, or take it away."""
        body = {"principal": principal, "present": present}
        return cast("VaultState", await self._send("POST", _vault(vault, "readers"), body))

    async def create_key(self, vault: str, name: str, **attributes: Unpack[KeyAttributes]) -> KeyState:
        """A new key (RSA 2048 unless told otherwise), or a new version of the one of that name."""
        return cast("KeyState", await self._send("POST", _vault(vault, "keys"), {"name": name, **attributes}))

    async def key(self, vault: str, name: str) -> KeyState:
        """One key with its versions, oldest first."""
        return cast("KeyState", await self._send("GET", _key(vault, name)))

    async def rotate_key(self, vault: str, name: str, **attributes: Unpack[KeyAttributes]) -> KeyState:
        """A new version, like the newest but for what is given."""
        return cast("KeyState", await self._send("POST", _key(vault, name, "rotate"), attributes))

    async def change_key(self, vault: str, name: str, version: str = "newest", **change: Unpack[KeyChange]) -> KeyState:
        """Change one version, by id or as `newest`, or `all`."""
        return cast("KeyState", await self._send("PATCH", _key(vault, name), {"version": version, **change}))

    async def disable_key(self, vault: str, name: str, version: str = "all") -> KeyState:
        """Disable a version or all."""
        return await self.change_key(vault, name, version, enabled=False)

    async def enable_key(self, vault: str, name: str, version: str = "all") -> KeyState:
        """Enable a version or all."""
        return await self.change_key(vault, name, version, enabled=True)

    async def delete_key(self, vault: str, name: str) -> KeyState:
        """Soft-delete a key."""
        return cast("KeyState", await self._send("DELETE", _key(vault, name)))

    async def recover_key(self, vault: str, name: str) -> KeyState:
        """Bring a soft-deleted key back."""
        return cast("KeyState", await self._send("POST", _key(vault, name, "recover")))

    async def purge_key(self, vault: str, name: str) -> None:
        """Drop a soft-deleted key for ever."""
        await self._send("POST", _key(vault, name, "purge"))

    async def create_identity(
        self, name: str, *, kind: PrincipalKind = PrincipalKind.USER_ASSIGNED, tenant: str | None = None
    ) -> PrincipalState:
        """A managed identity of the machine."""
        body = {"name": name, "kind": kind, "tenant": tenant}
        return cast("PrincipalState", await self._send("POST", "identities", body))

    async def create_application(self, name: str, **options: Unpack[ApplicationOptions]) -> PrincipalState:
        """An application with a secret, certificates or federated credentials."""
        return cast("PrincipalState", await self._send("POST", "applications", {"name": name, **options}))

    async def change_application(self, name: str, **change: Unpack[ApplicationChange]) -> PrincipalState:
        """Disable or enable an application, let it into a tenant or throw it out."""
        return cast("PrincipalState", await self._send("PATCH", f"applications/{quote(name)}", change))

    async def attach_identity(self, name: str) -> PrincipalState:
        """Give a managed identity back to the machine."""
        return cast("PrincipalState", await self._send("PATCH", f"identities/{quote(name)}", {"attached": True}))

    async def detach_identity(self, name: str) -> PrincipalState:
        """Take a managed identity away from the machine; it stays what it is, with its grants."""
        return cast("PrincipalState", await self._send("PATCH", f"identities/{quote(name)}", {"attached": False}))

    async def delete_principal(self, name: str) -> None:
        """Take an identity or application away."""
        await self._send("DELETE", f"principals/{quote(name)}")

    async def remove_tenant(self, tenant: str) -> None:
        """Close a tenant."""
        await self._send("PATCH", f"tenants/{quote(tenant)}", {"present": False})

    async def restore_tenant(self, tenant: str) -> None:
        """Open a closed tenant again."""
        await self._send("PATCH", f"tenants/{quote(tenant)}", {"present": True})

    async def set_fault(self, target: str, kind: FaultKind | str, **options: Unpack[FaultOptions]) -> FaultState:
        """Bad luck for a vault, `*`, `entra`, `managed-identity`, `arm` or `event-grid`."""
        return cast("FaultState", await self._send("POST", "faults", {"target": target, "kind": kind, **options}))

    async def clear_faults(self, *, number: int | None = None, target: str | None = None) -> int:
        """End one fault, those of a target, or all; how many there were."""
        path = "faults" if number is None else f"faults/{number}"
        path += "" if target is None else f"?target={quote(target)}"
        return cast("int", cast("Mapping[str, object]", await self._send("DELETE", path))["cleared"])

    async def set_dialects(self, dialects: Mapping[Dialect, bool]) -> WorldState:
        """Switch dialects on or off; the others stay."""
        return cast("WorldState", await self._send("PATCH", "settings", {"dialects": dict(dialects)}))

    async def set_token_seconds(self, *, application: int | None = None, identity: int | None = None) -> WorldState:
        """Lifetimes of the tokens issued from now on."""
        body = {"application_token_seconds": application, "identity_token_seconds": identity}
        return cast("WorldState", await self._send("PATCH", "settings", body))

    async def set_role_delay(self, seconds: float) -> WorldState:
        """How long changes of roles, from now on, take to be known to vaults and ARM."""
        return cast("WorldState", await self._send("PATCH", "settings", {"role_delay_seconds": seconds}))

    async def _send(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - a JSON document
        if self._session is None:
            raise ControlError(0, "the control client is not open", "use it as `async with ControlClient(url)`")
        try:
            async with self._session.request(method, f"{self.url}/_control/{path}", json=body) as response:
                document = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = type(error).__name__
            raise ControlError(
                0, f"no emulator answers at {self.url}: {reason}", "start `byokd emulator run`"
            ) from error
        if response.status >= 400:  # noqa: PLR2004 - the HTTP errors
            raise ControlError(response.status, document["error"], document["hint"])
        return document


def _vault(name: str, action: str = "") -> str:
    return f"vaults/{quote(name)}" + (f"/{action}" if action else "")


def _key(vault: str, name: str, action: str = "") -> str:
    return _vault(vault, f"keys/{quote(name)}") + (f"/{action}" if action else "")
