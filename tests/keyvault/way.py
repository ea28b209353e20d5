"""A vault of the emulator and byokd's way to it."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aiohttp import ClientSession

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.channel import TokenSource
from byokd.adapters.keyvault.service import NOBODY, AzureKeyService, Bystanders
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import KeyFacts
from byokd.domain.identifiers import KeyIdentifier, KeyVersion
from byokd.emulator import Emulator
from byokd.ports import KeyTarget
from byokd.settings import VaultSettings


class ServiceOver(Protocol):
    def __call__(
        self, session: ClientSession, tokens: TokenSource, *, vaults: VaultSettings, bystanders: Bystanders = NOBODY
    ) -> AzureKeyService: ...


VAULT = "contoso"
KEY = "customer-key"


class RealClock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody here sleeps for {seconds} s")


@dataclass(frozen=True)
class Azure:
    """A vault with one key, and byokd's way to it."""

    emulator: Emulator
    outbound: Outbound
    credentials: Credentials
    service: AzureKeyService
    fresh: AzureKeyService
    target: KeyTarget
    clock: RealClock

    def at(self, version: str, *, key: str = KEY) -> KeyTarget:
        """The target of one version."""
        identifier = KeyIdentifier(self.target.key.host, key, KeyVersion(version))
        return KeyTarget(self.target.identity, self.target.tenant, identifier)

    async def newest(self) -> KeyTarget:
        """The target of the newest version, as GET tells it."""
        facts = await self.service.get(self.target)
        assert isinstance(facts, KeyFacts), facts
        return self.at(facts.version)

    async def wrapped(self, plaintext: bytes = b"probe") -> tuple[KeyTarget, bytes]:
        """The newest version, and something wrapped with it."""
        target = await self.newest()
        wrapped = await self.service.wrap(target, plaintext)
        assert isinstance(wrapped, bytes), wrapped
        return target, wrapped

    def calls(self, target: str = VAULT, **what: object) -> int:
        """How many calls the emulator saw."""
        return self.emulator.world.calls.total(target=target, **what)
