"""The outside, as the runtime has it: the ports, filled."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from byokd.domain.properties import VaultProperties
from byokd.ports import (
    AccountCipher,
    Bus,
    Clock,
    Ids,
    KeyService,
    KeyTarget,
    Randomness,
    Sealer,
    ServiceManager,
    Store,
    VaultRegistry,
)
from byokd.ports.deliveries import DeliveryTokens
from byokd.ports.queues import EventQueue
from byokd.runtime.own_faults import VaultTimes


class Unregistered:
    """No registry: of no vault anything is told. See `VaultRegistry`."""

    async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:  # noqa: ARG002 - the port's
        """Tell nothing."""
        return None


class Unbelieving:
    """Believes no token. See `DeliveryTokens`."""

    async def are_from(self, token: str, **wanted: str) -> bool:  # noqa: ARG002 - the port's
        """Deny it."""
        return False


@dataclass(frozen=True, slots=True)
class Outside:
    """The ports, filled. Tests fill them otherwise; nothing else differs.

    Attributes:
        probe_keys: for routine looks at healthy keys.
        keys: for everything that changes something: registering, rewrapping.
        fresh_keys: like `keys`, but every call opens a connection of its own: for confirming denials.
        manager: who started the daemon.
        vault_times: who tells what time the vaults say it is.
        registry: what Azure itself tells of vaults.
        delivery_tokens: who judges the tokens of deliveries.
        event_queues: those that Event Grid delivers to, by the name of their source.
    """

    store: Store
    probe_keys: KeyService
    keys: KeyService
    fresh_keys: KeyService
    sealer: Sealer
    cipher: AccountCipher
    bus: Bus
    clock: Clock
    randomness: Randomness
    ids: Ids
    manager: ServiceManager
    vault_times: VaultTimes = field(default_factory=VaultTimes)
    registry: VaultRegistry = field(default_factory=Unregistered)
    delivery_tokens: DeliveryTokens = field(default_factory=Unbelieving)
    event_queues: Mapping[str, EventQueue] = field(default_factory=dict)
