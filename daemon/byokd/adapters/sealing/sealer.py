"""AES-256-GCM under the service's own keys.

A sealed value is: a version byte (1), the length of the key id (one byte), the key id, a random nonce of 12 bytes, the
ciphertext and the tag of 16 bytes. Random nonces are safe for 2^32 values under one key.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from byokd.adapters.sealing.binding import bound
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.ports import Randomness, SealBrokenError, SealContext, ServiceKey

_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_PURPOSE: Final = "byokd sealed value"


class AesGcmSealer:
    """Seals and opens; see the port. What is sealed is bound to its context, the kind and the id of the key."""

    def __init__(self, keys: FileServiceKeys, randomness: Randomness) -> None:
        self._keys = keys
        self._randomness = randomness

    def seal(self, key: ServiceKey, plaintext: bytes, *, context: SealContext) -> bytes:
        """Seal under the newest key of that kind."""
        key_id = self._keys.newest(key)
        name, nonce = key_id.encode(), self._randomness.bytes(_NONCE_BYTES)
        cipher = AESGCM(self._keys.key(key, key_id))
        sealed = cipher.encrypt(nonce, plaintext, _associated(key, key_id, context))
        return bytes((_VERSION, len(name))) + name + nonce + sealed

    def open(self, key: ServiceKey, sealed: bytes, *, context: SealContext) -> bytes:
        """Open what was sealed under any live key of that kind.

        Raises:
            SealBrokenError: it does not open in this context.
            ServiceKeyMissingError: the key that sealed it is not there.
        """
        name, nonce, ciphertext = _split(sealed)
        key_id = _name_of(name)
        try:
            return AESGCM(self._keys.key(key, key_id)).decrypt(nonce, ciphertext, _associated(key, key_id, context))
        except InvalidTag:
            raise SealBrokenError(f"a sealed value of kind {context.kind!r} does not open in its place") from None

    def newest(self, key: ServiceKey) -> str:
        """See `Sealer.newest`."""
        return self._keys.newest(key)

    def sealed_by(self, sealed: bytes) -> str:
        """See `Sealer.sealed_by`."""
        return _name_of(_split(sealed)[0])

    def fingerprints(self) -> Mapping[tuple[str, str], bytes]:
        """See `Sealer.fingerprints`."""
        return {(str(kind), key_id): value for (kind, key_id), value in self._keys.fingerprints().items()}


def _name_of(name: bytes) -> str:
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        raise SealBrokenError("not a sealed value: its key has no name") from None


def _split(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    start = 2 + sealed[1] if len(sealed) > 1 else 0
    if len(sealed) < 2 + _NONCE_BYTES + _TAG_BYTES or sealed[0] != _VERSION:
        raise SealBrokenError("not a sealed value")
    if len(sealed) < start + _NONCE_BYTES + _TAG_BYTES:
        raise SealBrokenError("a sealed value that is cut short")
    return sealed[2:start], sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]


def _associated(key: ServiceKey, key_id: str, context: SealContext) -> bytes:
    return bound(_PURPOSE, context, key.value, key_id)
