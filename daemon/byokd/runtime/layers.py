"""The layers around a stored secret, as far as byokd itself can put them on and take them off: no vault is asked.

An account key, from the inside out: the payload; wrapped by the customer's key, or by the system key; its check value
in front; the storage key around both. A protected value: encrypted with the account key; the storage key around.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.payload import Payload, PayloadInvalidError
from byokd.ports import AccountCipher, SealBrokenError, SealContext, Sealer, ServiceKey
from byokd.records import Resealed, SealedKey, SealedValue, WrappedKey

CHECK_VALUE_BYTES: Final = 16

_KIND = "account-key"


class SealUnprovenError(Exception):
    """What was sealed a moment ago opens as something else. Nothing was stored."""


@dataclass(frozen=True, slots=True, repr=False)
class Wrap:
    """A wrapped account key without the storage key's layer, and the check value that came with it."""

    check_value: bytes
    inner: bytes

    def __repr__(self) -> str:
        return "Wrap(...)"


class Layers:
    """Puts the service's own layers on and takes them off.

    Whatever is taken off may raise SealBrokenError (damage, or another row's), ServiceKeyMissingError (our own fault)
    and, where a payload comes to light, PayloadInvalidError.
    """

    def __init__(self, sealer: Sealer, cipher: AccountCipher) -> None:
        self._sealer = sealer
        self._cipher = cipher

    def wrap(
        self, payload: Payload, account: AccountId, *, by_customer: tuple[KeyIdentifier, bytes] | None
    ) -> SealedKey:
        """Seal an account key.

        Args:
            payload: bound to `account` and the generation that it will have.
            account: whose it is.
            by_customer: the version that wrapped the payload and what came of it; None for the system key.
        """
        key = None if by_customer is None else by_customer[0]
        context = _context(account, payload.generation, key)
        system_key = None
        if by_customer is None:
            inner = self._sealer.seal(ServiceKey.SYSTEM, payload.encode(), context=context)
            system_key = self._sealer.sealed_by(inner)
        else:
            inner = by_customer[1]
        return self._covered(Wrap(self._cipher.check_value(payload.account_key), inner), context, system_key)

    def uncover(self, wrapped: WrappedKey) -> Wrap:
        """Take the storage key's layer off, which must be of the key that the record names."""
        sealed = wrapped.sealed
        _agree(ServiceKey.STORAGE, sealed.storage_key, self._sealer.sealed_by(sealed.data))
        plaintext = self._sealer.open(ServiceKey.STORAGE, sealed.data, context=_context_of(wrapped))
        if len(plaintext) <= CHECK_VALUE_BYTES:
            raise SealBrokenError("a sealed account key without its check value")
        return Wrap(plaintext[:CHECK_VALUE_BYTES], plaintext[CHECK_VALUE_BYTES:])

    def unwrap(self, wrapped: WrappedKey, wrap: Wrap) -> Payload:
        """Take the system key's layer off too."""
        _agree(ServiceKey.SYSTEM, wrapped.sealed.system_key, self._sealer.sealed_by(wrap.inner))
        data = self._sealer.open(ServiceKey.SYSTEM, wrap.inner, context=_context_of(wrapped))
        return self.read(wrapped, wrap, data)

    def read(self, wrapped: WrappedKey, wrap: Wrap, data: bytes) -> Payload:
        """Read what was unwrapped: it must be of this account and generation, and the very key that was sealed.

        Raises:
            PayloadInvalidError: it is not.
        """
        payload = Payload.open(data, account=wrapped.account, generation=wrapped.generation)
        if not hmac.compare_digest(self._cipher.check_value(payload.account_key), wrap.check_value):
            raise PayloadInvalidError("what was unwrapped is another account key than the one that was sealed")
        return payload

    def uncover_value(self, value: SealedValue) -> bytes:
        """Take the storage key's layer off a protected value; what comes out is encrypted with the account key."""
        _agree(ServiceKey.STORAGE, value.storage_key, self._sealer.sealed_by(value.sealed))
        return self._sealer.open(ServiceKey.STORAGE, value.sealed, context=value_context(value))

    def prove_value(self, value: SealedValue, account_key: bytes) -> None:
        """Take both layers off a protected value, and forget what was inside."""
        self._cipher.decrypt(account_key, self.uncover_value(value), context=value_context(value))

    def resealed(self, before: WrappedKey | SealedValue) -> Resealed:
        """Seal the same under the newest keys. It is opened again and compared before it is given.

        Raises:
            SealUnprovenError: it was not the same.
        """
        if isinstance(before, SealedValue):
            return Resealed(before, self._resealed_value(before))
        wrap, context = self.uncover(before), _context_of(before)
        inner, system_key = wrap.inner, None
        if before.key_identifier is None:
            plaintext = self.unwrap(before, wrap).encode()
            inner = self._sealer.seal(ServiceKey.SYSTEM, plaintext, context=context)
            system_key = self._sealer.sealed_by(inner)
            self._prove(ServiceKey.SYSTEM, inner, plaintext, context)
        return Resealed(before, self._covered(Wrap(wrap.check_value, inner), context, system_key))

    def _resealed_value(self, value: SealedValue) -> SealedKey:
        plaintext, context = self.uncover_value(value), value_context(value)
        data = self._sealer.seal(ServiceKey.STORAGE, plaintext, context=context)
        self._prove(ServiceKey.STORAGE, data, plaintext, context)
        return SealedKey(data, self._sealer.sealed_by(data), None)

    def _covered(self, wrap: Wrap, context: SealContext, system_key: str | None) -> SealedKey:
        plaintext = wrap.check_value + wrap.inner
        data = self._sealer.seal(ServiceKey.STORAGE, plaintext, context=context)
        self._prove(ServiceKey.STORAGE, data, plaintext, context)
        return SealedKey(data, self._sealer.sealed_by(data), system_key)

    def _prove(self, key: ServiceKey, sealed: bytes, plaintext: bytes, context: SealContext) -> None:
        if not hmac.compare_digest(self._sealer.open(key, sealed, context=context), plaintext):
            raise SealUnprovenError(f"what the {key} key sealed a moment ago opens as something else")


def value_context(value: SealedValue) -> SealContext:
    """Give what both layers of a protected value are bound to."""
    return SealContext(value.account, kind=value.kind, name=value.name, generation=value.revision, key_identifier="")


def _agree(key: ServiceKey, recorded: str | None, found: str) -> None:
    # Rotation goes by what is recorded: if that were wrong, a key could be taken away that is still needed.
    if recorded != found:
        raise SealBrokenError(f"its record names the {key} key {recorded!r}, but {found!r} sealed it")


def _context_of(wrapped: WrappedKey) -> SealContext:
    return _context(wrapped.account, wrapped.generation, wrapped.key_identifier)


def _context(account: AccountId, generation: int, key: KeyIdentifier | None) -> SealContext:
    return SealContext(
        account, kind=_KIND, name="", generation=generation, key_identifier="" if key is None else str(key)
    )
