import hashlib
import hmac
import os
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from byokd.adapters.sealing.account_cipher import HkdfAccountCipher
from byokd.domain.identifiers import AccountId
from byokd.ports import SealBrokenError, SealContext


class Randomness:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def uniform(self, low: float, high: float) -> float:
        raise AssertionError(f"no number between {low} and {high} is fit for a nonce")


ACCOUNT = AccountId("11111111-1111-1111-1111-111111111111", "group", "contoso")
CONTEXT = SealContext(ACCOUNT, "content-key", "film", 3, "")
CIPHER = HkdfAccountCipher(Randomness())
ACCOUNT_KEYS = st.binary(min_size=32, max_size=32)


def expanded(account_key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand as RFC 5869 writes it, for at most one block."""
    return hmac.digest(account_key, info + b"\x01", hashlib.sha256)[:length]


@given(ACCOUNT_KEYS, st.binary(max_size=300))
def test_what_is_protected_is_revealed_in_its_place(account_key: bytes, plaintext: bytes) -> None:
    ciphertext = CIPHER.encrypt(account_key, plaintext, context=CONTEXT)
    assert CIPHER.decrypt(account_key, ciphertext, context=CONTEXT) == plaintext
    assert CIPHER.encrypt(account_key, plaintext, context=CONTEXT) != ciphertext


@given(ACCOUNT_KEYS, ACCOUNT_KEYS)
def test_another_account_key_reveals_nothing(one: bytes, other: bytes) -> None:
    assume(one != other)
    with pytest.raises(SealBrokenError):
        CIPHER.decrypt(other, CIPHER.encrypt(one, b"secret", context=CONTEXT), context=CONTEXT)
    assert CIPHER.check_value(one) != CIPHER.check_value(other)


@pytest.mark.parametrize(
    "moved", [{"kind": "token-key"}, {"name": "other"}, {"generation": 4}, {"key_identifier": "x"}]
)
def test_a_protected_value_cannot_be_moved(moved: dict[str, object]) -> None:
    ciphertext = CIPHER.encrypt(b"k" * 32, b"secret", context=CONTEXT)
    with pytest.raises(SealBrokenError):
        CIPHER.decrypt(b"k" * 32, ciphertext, context=replace(CONTEXT, **moved))


@given(st.binary(max_size=80))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(SealBrokenError):
        CIPHER.decrypt(b"k" * 32, junk, context=CONTEXT)


@given(ACCOUNT_KEYS)
def test_a_check_value_stays_the_same_from_version_to_version(account_key: bytes) -> None:
    assert CIPHER.check_value(account_key) == expanded(account_key, b"byokd account key v1/check value", 16)


def test_the_account_key_itself_encrypts_nothing() -> None:
    ciphertext = CIPHER.encrypt(b"k" * 32, b"secret", context=CONTEXT)
    used = expanded(b"k" * 32, b"byokd account key v1/protected values", 32)
    assert used != b"k" * 32
    with pytest.raises(SealBrokenError):
        CIPHER.decrypt(used, ciphertext, context=CONTEXT)
