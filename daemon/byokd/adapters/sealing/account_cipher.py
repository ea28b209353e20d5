"""What is done with an account key: each purpose has a key of its own, by HKDF-SHA-256 (RFC 5869).

A protected value is: a version byte (1), a random nonce of 12 bytes, the ciphertext and the tag of 16 bytes.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from byokd.adapters.sealing.binding import bound
from byokd.ports import Randomness, SealBrokenError, SealContext

CHECK_VALUE_BYTES: Final = 16

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_LEAST_BYTES: Final = 1 + _NONCE_BYTES + 16
_PROTECTED_VALUES: Final = b"byokd account key v1/protected values"
_CHECK_VALUE: Final = b"byokd account key v1/check value"


class HkdfAccountCipher:
    """See the port."""

    def __init__(self, randomness: Randomness) -> None:
        self._randomness = randomness

    def check_value(self, account_key: bytes) -> bytes:
        """See `AccountCipher.check_value`."""
        return _derived(account_key, _CHECK_VALUE, CHECK_VALUE_BYTES)

    def encrypt(self, account_key: bytes, plaintext: bytes, *, context: SealContext) -> bytes:
        """See `AccountCipher.encrypt`. Random nonces are safe for 2^32 values of one account."""
        nonce = self._randomness.bytes(_NONCE_BYTES)
        cipher = AESGCM(_derived(account_key, _PROTECTED_VALUES, 32))
        return _VERSION + nonce + cipher.encrypt(nonce, plaintext, _associated(context))

    def decrypt(self, account_key: bytes, ciphertext: bytes, *, context: SealContext) -> bytes:
        """See `AccountCipher.decrypt`."""
        if len(ciphertext) < _LEAST_BYTES or ciphertext[:1] != _VERSION:
            raise SealBrokenError("not a protected value")
        nonce, body = ciphertext[1 : 1 + _NONCE_BYTES], ciphertext[1 + _NONCE_BYTES :]
        cipher = AESGCM(_derived(account_key, _PROTECTED_VALUES, 32))
        try:
            return cipher.decrypt(nonce, body, _associated(context))
        except InvalidTag:
            raise SealBrokenError(f"a protected value of kind {context.kind!r} does not open in its place") from None


def _derived(account_key: bytes, purpose: bytes, length: int) -> bytes:
    # An account key is random throughout, so that the extracting half of HKDF has nothing to do (RFC 5869, 3.3).
    return HKDFExpand(algorithm=SHA256(), length=length, info=purpose).derive(account_key)


def _associated(context: SealContext) -> bytes:
    return bound("byokd protected value", context)
