"""Azure in miniature with an identity of every kind, and byokd's way to their tokens over TLS."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
import pytest

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.emulator import Emulator, KeyMaker
from byokd.emulator.world import HOME_TENANT
from byokd.settings import IdentitySettings, NetworkSettings, VaultSettings
from identity.proofs import ISSUER, SUBJECT, own_certificate, public_pem, rsa_key, service_account_token

SCOPE: Final = "https://vault.azure.net/.default"
CONTOSO: Final = TenantId("33333333-3333-3333-3333-333333333333")
FABRIKAM: Final = TenantId("44444444-4444-4444-4444-444444444444")
SHARED_KEYS: Final = KeyMaker(pool=2)

MANAGED: Final = ("machine", "user", "by-resource-id")
APPLICATIONS: Final = ("pods", "certified", "vendor")
"""Names of identities: the first by endpoints of the machine, the others by Entra ID and a tenant."""

_VARIABLES: Final = (
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MSI_ENDPOINT",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_AUTHORITY_HOST",
    "AZURE_IDENTITY_DISABLE_MULTITENANTAUTH",
)


class Clock:
    """The real time, moved on by hand: the package compares expiry with its own clock. Or it stands still at `at`."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.at: float | None = None

    def now(self) -> datetime:
        if self.at is not None:
            return datetime.fromtimestamp(self.at, UTC)
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return self.ahead

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps for {seconds} s")


@dataclass(slots=True)
class Platform:
    directory: Path
    emulator: Emulator
    outbound: Outbound
    clock: Clock
    identities: Mapping[str, IdentitySettings]
    credentials: Credentials

    async def token(self, identity: str, *, tenant: str = CONTOSO, scope: str = SCOPE, **more: str) -> str:
        return await self.credentials.token(IdentityName(identity), scope=scope, tenant=TenantId(tenant), **more)

    def asked(self, target: str = "entra") -> int:
        """How many tokens were asked for."""
        return self.emulator.world.calls.total(target=target, operation="token")

    def other(self, **options: int) -> Credentials:
        """Credentials of their own, with nothing at hand."""
        return Credentials(self.identities, self.outbound.tokens, clock=self.clock, **options)

    async def all_of(self, identity: str, tenants: list[TenantId]) -> list[str | BaseException]:
        """Ask for all at once."""
        return await asyncio.gather(*(self.token(identity, tenant=one) for one in tenants), return_exceptions=True)

    @property
    def certificate(self) -> Path:
        return self.directory / "certified.pem"

    @property
    def token_file(self) -> Path:
        return self.directory / "federated"


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@asynccontextmanager
async def running_platform(directory: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    """A platform with three applications that both customers let in."""
    for name in _VARIABLES:
        patch.delenv(name, raising=False)
    async with Emulator.start(state_dir=directory / "emulator", keys=SHARED_KEYS) as emulator:
        for name, value in emulator.imds_environment().items():
            patch.setenv(name, value)
        identities = await _made(emulator, directory)
        network = NetworkSettings(ca_file=emulator.ca_file, connect_to=emulator.connect_to)
        async with Outbound(VaultSettings(), network) as outbound:
            clock = Clock()
            credentials = Credentials(identities, outbound.tokens, clock=clock)
            yield Platform(directory, emulator, outbound, clock, identities, credentials)
            await credentials.close()


async def _made(emulator: Emulator, directory: Path) -> dict[str, IdentitySettings]:
    control, consented = emulator.control, [CONTOSO, FABRIKAM]
    user = await control.create_identity("user")
    certificate = own_certificate(directory / "certified.pem")
    certified = await control.create_application("certified", certificates=[certificate.public], consented=consented)
    cluster = {"issuer": ISSUER, "subject": SUBJECT, "public_key": public_pem(rsa_key(1))}
    pods = await control.create_application("pods", federations=[cluster], consented=consented)
    machine = {"issuer": f"https://login.microsoftonline.com/{HOME_TENANT}/v2.0", "subject": user["object_id"]}
    vendor = await control.create_application("vendor", federations=[machine], consented=consented)
    token_file = directory / "federated"
    token_file.write_text(service_account_token())
    return {
        "machine": IdentitySettings(),
        "user": IdentitySettings(client_id=user["client_id"]),
        "by-resource-id": IdentitySettings(resource_id=user["resource_id"]),
        "pods": IdentitySettings(
            kind="workload-identity", client_id=pods["client_id"], tenant=HOME_TENANT, token_file=token_file
        ),
        "certified": IdentitySettings(
            kind="certificate", client_id=certified["client_id"], certificate_file=certificate.path
        ),
        "vendor": IdentitySettings(kind="cross-tenant", client_id=vendor["client_id"], via="user"),
    }
