import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.identifiers import AccountId
from byokd.domain.payload import PAYLOAD_BYTES, Payload, PayloadInvalidError
from byokd.domain.verdict import Probe

ACCOUNT = AccountId("0f8fad5b-d9cb-469f-a165-70867728950e", "rg", "contoso")
NEIGHBOUR = AccountId("0f8fad5b-d9cb-469f-a165-70867728950e", "rg", "fabrikam")
account_keys = st.binary(min_size=32, max_size=32)
generations = st.integers(1, 2**64 - 1)


@given(account_keys, generations)
def test_what_was_bound_opens_for_its_account_and_generation(account_key: bytes, generation: int) -> None:
    data = Payload.bind(account_key, account=ACCOUNT, generation=generation).encode()
    assert len(data) == PAYLOAD_BYTES
    assert Payload.open(data, account=ACCOUNT, generation=generation).account_key == account_key


@given(account_keys, generations, st.integers(32, PAYLOAD_BYTES - 1), st.integers(1, 255))
def test_any_changed_byte_of_what_binds_the_key_is_refused(key: bytes, generation: int, at: int, change: int) -> None:
    data = bytearray(Payload.bind(key, account=ACCOUNT, generation=generation).encode())
    data[at] ^= change
    with pytest.raises(PayloadInvalidError) as caught:
        Payload.open(bytes(data), account=ACCOUNT, generation=generation)
    assert key.hex() not in str(caught.value)


@given(account_keys, generations, generations)
def test_another_account_or_generation_is_refused(key: bytes, generation: int, other: int) -> None:
    data = Payload.bind(key, account=ACCOUNT, generation=generation).encode()
    with pytest.raises(PayloadInvalidError, match="another account"):
        Payload.open(data, account=NEIGHBOUR, generation=generation)
    if other != generation:
        with pytest.raises(PayloadInvalidError, match="generation"):
            Payload.open(data, account=ACCOUNT, generation=other)


@given(st.binary(max_size=200).filter(lambda data: len(data) != PAYLOAD_BYTES))
def test_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadInvalidError, match="bytes"):
        Payload.open(data, account=ACCOUNT, generation=1)


@given(st.binary(max_size=64).filter(lambda data: len(data) != 32))
def test_an_account_key_of_another_length_is_never_bound(key: bytes) -> None:
    with pytest.raises(PayloadInvalidError, match="32 bytes"):
        Payload.bind(key, account=ACCOUNT, generation=1)


def test_secrets_are_not_shown() -> None:
    assert repr(Payload.bind(b"k" * 32, account=ACCOUNT, generation=1)) == "Payload(...)"
    assert repr(Probe(b"wrapped", b"digest")) == "Probe(...)"
