"""What `byokd doctor` looks at the outside with. Nothing here changes anything but by its trial messages on the bus."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports.brake import BrakeReport
from byokd.ports.bus import Bus
from byokd.ports.machine import Clock
from byokd.ports.queues import EventQueue
from byokd.ports.sealed import SealedStore
from byokd.ports.sealing import Sealer
from byokd.records import Failing


@dataclass(frozen=True, slots=True)
class WatchedVault:
    """A vault, and the tenant that its accounts pinned."""

    host: VaultHost
    tenant: TenantId


@dataclass(frozen=True, slots=True)
class AccountsAlike:
    """How many accounts are alike in what is amiss with them; None, or no, where that is not.

    Attributes:
        denied: why they are Inaccessible.
        suspicion: why their version is suspected; `is_held`: and held by the brake.
        unverified: why it could not be verified.
    """

    number: int
    denied: Reason | None
    suspicion: Reason | None
    is_held: bool
    unverified: Reason | None
    is_damaged: bool


@dataclass(frozen=True, slots=True)
class Plight:
    """What is stored of trouble, as of one moment.

    Attributes:
        refusing: the vaults that were seen to refuse a key that wraps account keys, confirmed or not, by the reason.
        failing: those that fail or throttle.
    """

    accounts: tuple[AccountsAlike, ...]
    brake: BrakeReport
    refusing: Mapping[Reason, tuple[VaultHost, ...]]
    failing: Mapping[VaultHost, Failing]


@dataclass(frozen=True, slots=True)
class StoreLook:
    """What a database looks like from outside.

    Attributes:
        place: the file or server, without credentials.
        schema: its version; None where the database is empty or not made yet.
        needed: the version that this program needs.
        holder: who uses it for writing, as far as the machine tells; None when nobody does.
        exposed: why others could read it; None when they cannot.
        accounts: how many there are.
        identities: those that accounts use.
        vaults: how many are watched.
        sample: some of them.
        using: for each identity, some vaults that its accounts use, each of another tenant.
        plight: None where nothing can be read of it.
    """

    place: str
    schema: str | None
    needed: str
    holder: str | None
    exposed: str | None = None
    accounts: int = 0
    identities: frozenset[IdentityName] = frozenset()
    vaults: int = 0
    sample: tuple[WatchedVault, ...] = ()
    using: Mapping[IdentityName, tuple[WatchedVault, ...]] = field(default_factory=dict)
    plight: Plight | None = None


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a vault answered to a request without a token.

    Attributes:
        trouble: why it is no challenge of Key Vault's; None when it is one.
        tenant: the one that the challenge names.
        date: the vault's own time, where it told one.
        asked_at: ours, when the answer came.
    """

    trouble: Refused | NoAnswer | None
    tenant: TenantId | None
    date: datetime | None
    asked_at: datetime


class VaultGreeter(Protocol):
    """Asks vaults who they are. No token is ever sent."""

    async def greet(self, host: VaultHost) -> Greeting:
        """Ask once, on a new connection. Never raises but for cancellation."""
        ...


class TokenTrial(Protocol):
    """Tries to get tokens, and gives none away."""

    def endpoint(self, identity: IdentityName) -> str:
        """Give where they come from: scheme, host and port."""
        ...

    async def failure(self, identity: IdentityName, *, host: VaultHost | None, tenant: TenantId | None) -> str | None:
        """Get a token for a vault's cloud and forget it; give the code of what went wrong, or None.

        Without a tenant: in the one that the identity's settings name. Where they name none, and one is needed: do what
        can be done without asking for a token there.
        """
        ...

    async def object_id(self, identity: IdentityName) -> str | None:
        """Tell which managed identity that is in truth, by the token that it gives; None where none is to be had."""
        ...


@dataclass(frozen=True, slots=True)
class Instruments:
    """Everything that examinations use of the outside.

    Attributes:
        look_at_store: blocks; raises StoreUnavailableError.
        service_keys: reads the files; raises ServiceKeysUnusableError.
        sealed_store: opens the database for reading; raises StoreUnavailableError.
        queues: those that Event Grid delivers to, by the name of their source.
    """

    clock: Clock
    look_at_store: Callable[[], StoreLook]
    service_keys: Callable[[], Sealer]
    sealed_store: Callable[[], SealedStore]
    bus: Bus
    tokens: TokenTrial
    vaults: VaultGreeter
    queues: Mapping[str, EventQueue] = field(default_factory=dict)


DaemonReport = Mapping[str, object]
"""What a running daemon tells of itself on `/status`."""
