import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.domain.identifiers import AccountId
from byokd.ports import SealBrokenError, SealContext, ServiceKey, ServiceKeyMissingError


class Randomness:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def uniform(self, low: float, high: float) -> float:
        raise AssertionError(f"no number between {low} and {high} is fit for a nonce")


def put(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.write_bytes(os.urandom(32))
        path.chmod(0o600)


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    put(directory, "system.1.key", "storage.1.key", "storage.2.key", "audit.1.key")
    return directory


@pytest.fixture(scope="session")
def sealer(directory: Path) -> AesGcmSealer:
    return AesGcmSealer(FileServiceKeys(directory), Randomness())


ACCOUNT = AccountId("11111111-1111-1111-1111-111111111111", "group", "contoso")
CONTEXT = SealContext(ACCOUNT, "account-key", "current", 7, "https://contoso.vault.azure.net/keys/k/" + "0" * 32)
WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
CONTEXTS = st.builds(
    SealContext,
    account=st.builds(AccountId, WORDS, WORDS, WORDS),
    kind=WORDS,
    name=WORDS,
    generation=st.integers(0, 2**40),
    key_identifier=WORDS,
)
KEYS = st.sampled_from(ServiceKey)
fast = settings(deadline=None)


@fast
@given(key=KEYS, plaintext=st.binary(max_size=600), context=CONTEXTS)
def test_what_is_sealed_opens_in_its_place(
    sealer: AesGcmSealer, key: ServiceKey, plaintext: bytes, context: SealContext
) -> None:
    sealed = sealer.seal(key, plaintext, context=context)
    assert sealer.open(key, sealed, context=context) == plaintext
    assert len(sealed) == len(plaintext) + 2 + 1 + 12 + 16
    assert sealer.seal(key, plaintext, context=context) != sealed


@fast
@given(key=KEYS, one=CONTEXTS, other=CONTEXTS)
def test_it_opens_in_no_other_context(
    sealer: AesGcmSealer, key: ServiceKey, one: SealContext, other: SealContext
) -> None:
    assume(one != other)
    sealed = sealer.seal(key, b"secret", context=one)
    with pytest.raises(SealBrokenError):
        sealer.open(key, sealed, context=other)


@pytest.mark.parametrize(
    "moved",
    [
        {"account": replace(ACCOUNT, name="fabrikam")},
        {"account": replace(ACCOUNT, resource_group="other")},
        {"kind": "probe"},
        {"name": "superseded"},
        {"generation": 8},
        {"key_identifier": ""},
        {"kind": "account-keyc", "name": "urrent"},
        {"kind": "account-key\x00current", "name": ""},
    ],
)
def test_each_part_of_the_context_counts(sealer: AesGcmSealer, moved: dict[str, object]) -> None:
    sealed = sealer.seal(ServiceKey.STORAGE, b"secret", context=CONTEXT)
    with pytest.raises(SealBrokenError):
        sealer.open(ServiceKey.STORAGE, sealed, context=replace(CONTEXT, **moved))


@fast
@given(plaintext=st.binary(max_size=80), data=st.data())
def test_no_changed_bit_goes_unnoticed(sealer: AesGcmSealer, plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(sealer.seal(ServiceKey.STORAGE, plaintext, context=CONTEXT))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((SealBrokenError, ServiceKeyMissingError)):
        sealer.open(ServiceKey.STORAGE, bytes(sealed), context=CONTEXT)


@fast
@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"\x01\x011" + rest), KEYS)
def test_nothing_else_opens(sealer: AesGcmSealer, junk: bytes, key: ServiceKey) -> None:
    with pytest.raises((SealBrokenError, ServiceKeyMissingError)):
        sealer.open(key, junk, context=CONTEXT)


@fast
@given(st.integers(0, 60))
def test_what_is_cut_short_does_not_open(sealer: AesGcmSealer, length: int) -> None:
    sealed = sealer.seal(ServiceKey.SYSTEM, b"secret" * 5, context=CONTEXT)
    assert len(sealed) == 61
    with pytest.raises(SealBrokenError):
        sealer.open(ServiceKey.SYSTEM, sealed[:length], context=CONTEXT)


def test_kinds_of_keys_are_apart(sealer: AesGcmSealer) -> None:
    sealed = sealer.seal(ServiceKey.SYSTEM, b"secret", context=CONTEXT)
    with pytest.raises(SealBrokenError):
        sealer.open(ServiceKey.STORAGE, sealed, context=CONTEXT)


def test_a_newer_key_seals_older_ones_still_open_and_missing_ones_are_named(tmp_path: Path) -> None:
    put(tmp_path, "system.1.key", "storage.9.key", "audit.1.key")
    tmp_path.chmod(0o700)
    old = AesGcmSealer(FileServiceKeys(tmp_path), Randomness()).seal(ServiceKey.STORAGE, b"old", context=CONTEXT)
    put(tmp_path, "storage.10.key")
    both = AesGcmSealer(FileServiceKeys(tmp_path), Randomness())
    new = both.seal(ServiceKey.STORAGE, b"new", context=CONTEXT)
    assert both.open(ServiceKey.STORAGE, old, context=CONTEXT) == b"old"

    (tmp_path / "storage.9.key").unlink()
    later = AesGcmSealer(FileServiceKeys(tmp_path), Randomness())
    assert later.open(ServiceKey.STORAGE, new, context=CONTEXT) == b"new"
    with pytest.raises(ServiceKeyMissingError, match="storage key '9'"):
        later.open(ServiceKey.STORAGE, old, context=CONTEXT)


def test_the_same_id_with_another_key_does_not_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    put(tmp_path, "system.1.key", "storage.1.key", "audit.1.key")
    sealed = AesGcmSealer(FileServiceKeys(tmp_path), Randomness()).seal(ServiceKey.SYSTEM, b"old", context=CONTEXT)
    put(tmp_path, "system.1.key")
    with pytest.raises(SealBrokenError):
        AesGcmSealer(FileServiceKeys(tmp_path), Randomness()).open(ServiceKey.SYSTEM, sealed, context=CONTEXT)


def test_nothing_is_shown(sealer: AesGcmSealer, directory: Path) -> None:
    secret = repr((directory / "storage.1.key").read_bytes())[2:-1]
    assert secret not in repr(sealer)
    with pytest.raises(SealBrokenError) as raised:
        sealer.open(ServiceKey.STORAGE, b"\x01\x011" + b"hidden" * 9, context=CONTEXT)
    assert "hidden" not in str(raised.value)


def test_a_sealed_value_tells_which_key_sealed_it(sealer: AesGcmSealer) -> None:
    sealed = sealer.seal(ServiceKey.STORAGE, b"x", context=CONTEXT)
    assert sealer.sealed_by(sealed) == "2"
    with pytest.raises(SealBrokenError):
        sealer.sealed_by(b"\x02" + sealed[1:])
