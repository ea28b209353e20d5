"""What the runtime needs of the outside: small Protocols whose docstrings state obligations."""

from byokd.ports.bus import (
    Bus,
    BusMessage,
    BusRefusedError,
    BusSession,
    BusSilentError,
    BusTakenOverError,
    BusUnavailableError,
)
from byokd.ports.identity import ConsentWithdrawnError, TokenUnavailableError
from byokd.ports.machine import Clock, Ids, Randomness, ServiceManager
from byokd.ports.registry import VaultRegistry
from byokd.ports.sealed import SealedStore
from byokd.ports.sealing import (
    AccountCipher,
    Auditor,
    SealBrokenError,
    SealContext,
    Sealer,
    ServiceKey,
    ServiceKeyMissingError,
    ServiceKeysUnusableError,
    Signature,
)
from byokd.ports.store import (
    ExistsError,
    IdentityTakenError,
    StaleError,
    Store,
    StoreUnavailableError,
    TooManyError,
)
from byokd.ports.vault import KeyService, KeyTarget

__all__ = [
    "AccountCipher",
    "Auditor",
    "Bus",
    "BusMessage",
    "BusRefusedError",
    "BusSession",
    "BusSilentError",
    "BusTakenOverError",
    "BusUnavailableError",
    "Clock",
    "ConsentWithdrawnError",
    "ExistsError",
    "IdentityTakenError",
    "Ids",
    "KeyService",
    "KeyTarget",
    "Randomness",
    "SealBrokenError",
    "SealContext",
    "SealedStore",
    "Sealer",
    "ServiceKey",
    "ServiceKeyMissingError",
    "ServiceKeysUnusableError",
    "ServiceManager",
    "Signature",
    "StaleError",
    "Store",
    "StoreUnavailableError",
    "TokenUnavailableError",
    "TooManyError",
    "VaultRegistry",
]
