"""The 72 bytes that are wrapped for an account: its key, bound to the account and to a generation."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Self

from byokd.domain.identifiers import AccountId

ACCOUNT_KEY_BYTES = 32
PAYLOAD_BYTES = 72
"""32 (account key) + 32 (SHA-256 of the account id) + 8 (generation); RSA-OAEP-256 takes 190 with 2048 bits."""


class PayloadInvalidError(ValueError):
    """An unwrapped payload is not that of this account and generation. The message holds no key material."""


@dataclass(frozen=True, slots=True, repr=False)
class Payload:
    """An account key with what binds it. Never logged: `repr` shows nothing."""

    account_key: bytes
    account_digest: bytes
    generation: int

    @classmethod
    def bind(cls, account_key: bytes, *, account: AccountId, generation: int) -> Self:
        """Bind an account key of 32 bytes to its account and generation."""
        if len(account_key) != ACCOUNT_KEY_BYTES:
            raise PayloadInvalidError(f"an account key has {ACCOUNT_KEY_BYTES} bytes")
        return cls(account_key, hashlib.sha256(str(account).encode()).digest(), generation)

    @classmethod
    def open(cls, data: bytes, *, account: AccountId, generation: int) -> Self:
        """Read what was unwrapped and check all three parts.

        Raises:
            PayloadInvalidError: another length, another account or another generation.
        """
        if len(data) != PAYLOAD_BYTES:
            raise PayloadInvalidError(f"the payload has {len(data)} bytes instead of {PAYLOAD_BYTES}")
        opened = cls(data[:32], data[32:64], int.from_bytes(data[64:], "big"))
        expected = cls.bind(opened.account_key, account=account, generation=generation)
        if not hmac.compare_digest(opened.account_digest, expected.account_digest):
            raise PayloadInvalidError("the payload belongs to another account")
        if opened.generation != generation:
            raise PayloadInvalidError(f"the payload is of generation {opened.generation}, not {generation}")
        return opened

    def encode(self) -> bytes:
        """Give the 72 bytes."""
        return self.account_key + self.account_digest + self.generation.to_bytes(8, "big")

    def __repr__(self) -> str:
        return "Payload(...)"
