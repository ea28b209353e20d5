"""The service's own keys and what is done with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from byokd.domain.identifiers import AccountId


class ServiceKey(StrEnum):
    """The service's own keys."""

    SYSTEM = "system"
    STORAGE = "storage"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class SealContext:
    """What a sealed value is bound to, so that it cannot be moved to another row or field unnoticed."""

    account: AccountId
    kind: str
    name: str
    generation: int
    key_identifier: str


class SealBrokenError(Exception):
    """A sealed value does not open: another context, another key, or damage. Never a denial."""


class ServiceKeyMissingError(Exception):
    """A service key that a sealed value names is not there. Our own fault, never a denial."""


class ServiceKeysUnusableError(Exception):
    """The service's own keys are missing or unsafe, so the service must not start. The message says why."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Sealer(Protocol):
    """Seals with the service's own keys (AES-256-GCM). What it returns names the id of the key that sealed it."""

    def seal(self, key: ServiceKey, plaintext: bytes, *, context: SealContext) -> bytes:
        """Seal under the newest key of that kind."""
        ...

    def open(self, key: ServiceKey, sealed: bytes, *, context: SealContext) -> bytes:
        """Open what was sealed under any live key of that kind.

        Raises:
            SealBrokenError: it does not open in this context.
            ServiceKeyMissingError: the key that sealed it is not there.
        """
        ...

    def newest(self, key: ServiceKey) -> str:
        """Give the id of the key that seals."""
        ...

    def sealed_by(self, sealed: bytes) -> str:
        """Give the id of the key that sealed this, whether or not it is there.

        Raises:
            SealBrokenError: it is no sealed value.
        """
        ...

    def fingerprints(self) -> Mapping[tuple[str, str], bytes]:
        """Give a check value for each live key by kind and id: it tells another key, and nothing of the key itself."""
        ...


class AccountCipher(Protocol):
    """What is done with an account key. It is never used itself: each purpose has a key of its own derived from it."""

    def check_value(self, account_key: bytes) -> bytes:
        """Give the 16 bytes by which an account key is recognised. They say nothing of the key."""
        ...

    def encrypt(self, account_key: bytes, plaintext: bytes, *, context: SealContext) -> bytes:
        """Encrypt a protected value (AES-256-GCM), bound to its context."""
        ...

    def decrypt(self, account_key: bytes, ciphertext: bytes, *, context: SealContext) -> bytes:
        """Decrypt a protected value.

        Raises:
            SealBrokenError: another account key, another context, or damage.
        """
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """An HMAC-SHA-256 under the audit key of that id."""

    key_id: str
    mac: bytes


class Auditor(Protocol):
    """Signs the record of events with the audit key, so that nobody without it can change the record unnoticed."""

    def sign(self, data: bytes) -> Signature:
        """Sign under the newest audit key."""
        ...

    def is_genuine(self, data: bytes, signature: Signature) -> bool:
        """Tell whether the signature is of this data.

        Raises:
            ServiceKeyMissingError: the audit key that made it is not there.
        """
        ...
