"""The customer's vault."""

from dataclasses import dataclass
from typing import Protocol

from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId


@dataclass(frozen=True, slots=True)
class KeyTarget:
    """A key and who asks for it. With a versionless key, operations that need a version are a defect."""

    identity: IdentityName
    tenant: TenantId
    key: KeyIdentifier


class KeyService(Protocol):
    """The customer's vault. Every answer is classified; nothing of the SDK gets past it.

    Obligations: a credential goes only to the target's host and only for the target's tenant. The calls are made once,
    without retries, and respect cancellation; the caller sets the deadline (`asyncio.timeout`) and a deadline that
    passes surfaces as `TimeoutError`. Safe for concurrent use.
    """

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        """Give the facts of the named version, or of the newest one."""
        ...

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        """Wrap at most 190 bytes with the named version, RSA-OAEP-256, in the vault (never locally)."""
        ...

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        """Unwrap with the named version, RSA-OAEP-256."""
        ...
