import hmac
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.ports import ServiceKey, ServiceKeyMissingError, ServiceKeysUnusableError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    put(keys, "system.1.key")
    put(keys, "storage.1.key")
    put(keys, "audit.1.key")
    return keys


def put(directory: Path, name: str, content: bytes | None = None, mode: int = 0o600) -> Path:
    path = directory / name
    path.write_bytes(os.urandom(32) if content is None else content)
    path.chmod(mode)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused(directory: Path) -> tuple[str, str]:
    with pytest.raises(ServiceKeysUnusableError) as raised:
        FileServiceKeys(directory)
    assert raised.value.hint
    return str(raised.value), raised.value.hint


def test_keys_are_found_by_kind_and_id(directory: Path) -> None:
    content = put(directory, "system.2026-01.key").read_bytes()
    (directory / "README").write_text("not a key")
    keys = FileServiceKeys(directory)
    assert keys.key(ServiceKey.SYSTEM, "2026-01") == content
    assert keys.ids(ServiceKey.STORAGE) == ("1",)
    with pytest.raises(ServiceKeyMissingError, match="2026-01"):
        keys.key(ServiceKey.STORAGE, "2026-01")


def test_credentials_of_a_directory_are_keys_under_systemds_names(tmp_path: Path) -> None:
    content = [put(tmp_path, f"keys_{kind}.2.key", mode=0o400).read_bytes() for kind in ServiceKey]
    keys = FileServiceKeys(tmp_path)
    assert [keys.key(kind, "2") for kind in ServiceKey] == content


@pytest.mark.parametrize(
    "ids",
    [
        ["1", "9", "10"],
        ["2025-9", "2025-12", "2026-1"],
        ["01", "1"],
        ["1", "1-b", "2"],
        ["9", "a"],
        ["k1", "k2", "k10"],
    ],
)
def test_the_newest_is_the_greatest_in_natural_order(directory: Path, ids: list[str]) -> None:
    (directory / "system.1.key").unlink()
    for key_id in reversed(ids):
        put(directory, f"system.{key_id}.key")
    keys = FileServiceKeys(directory)
    assert list(keys.ids(ServiceKey.SYSTEM)) == ids
    assert keys.newest(ServiceKey.SYSTEM) == ids[-1]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_file_that_others_can_touch_is_refused(directory: Path, mode: int) -> None:
    put(directory, "storage.2.key", mode=mode)
    message, hint = refused(directory)
    assert "storage.2.key" in message
    assert "chmod 0600" in hint


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_files_of_the_owner_alone_are_taken(directory: Path, mode: int) -> None:
    put(directory, "storage.2.key", mode=mode)
    assert FileServiceKeys(directory).newest(ServiceKey.STORAGE) == "2"


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"x" * 10_000])
def test_another_length_is_refused(directory: Path, content: bytes) -> None:
    put(directory, "system.2.key", content)
    assert "does not hold 32 bytes" in refused(directory)[0]


@pytest.mark.parametrize("name", ["system.key", "system..key", "system.A.key", "storage.1.key.bak", "system.1 .key"])
def test_a_name_that_is_nearly_one_is_refused(directory: Path, name: str) -> None:
    put(directory, name)
    assert name in refused(directory)[0]


def test_a_directory_is_no_key(directory: Path) -> None:
    (directory / "system.2.key").mkdir(mode=0o700)
    assert "system.2.key is not a regular file" in refused(directory)[0]


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: os.mkfifo(path, mode=0o600),
        bind,
        lambda path: path.symlink_to(path.parent / "system.1.key"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
    ],
    ids=["pipe", "socket", "link to a key", "link to a device", "link to nothing"],
)
def test_what_is_no_regular_file_is_refused_at_once(
    directory: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    make(Path("system.2.key").absolute() if len(str(directory)) < 90 else Path("system.2.key"))
    assert "system.2.key is not a regular file" in refused(directory)[0]


@pytest.mark.parametrize("other", ["pipe", "link"])
def test_a_file_that_is_exchanged_after_the_look_is_refused_too(
    directory: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = put(directory, "system.2.key").lstat()
    (directory / "system.2.key").unlink()
    if other == "pipe":
        os.mkfifo(directory / "system.2.key", mode=0o600)
    else:
        (directory / "system.2.key").symlink_to(directory / "system.1.key")
    monkeypatch.setattr(Path, "lstat", lambda _: looked)
    assert "system.2.key" in refused(directory)[0]


def test_every_unusable_file_is_named_at_once(directory: Path) -> None:
    put(directory, "system.2.key", b"short")
    put(directory, "system.X.key")
    put(directory, "storage.1.key", mode=0o644)
    os.mkfifo(directory / "storage.2.key")
    message, hint = refused(directory)
    assert "system.2.key does not hold 32 bytes" in message
    assert "system.X.key is not named like a key" in message
    assert f"others than its owner can read {directory}/storage.1.key" in message
    assert "storage.2.key is not a regular file" in message
    assert "there is no" not in message
    for part in ("raw bytes", "system.<id>.key", "chmod 0600", "no pipe or device"):
        assert part in hint


def test_a_missing_kind_and_an_unusable_file_of_the_other_are_both_named(directory: Path) -> None:
    (directory / "storage.1.key").unlink()
    put(directory, "system.1.key", b"")
    message, _ = refused(directory)
    assert "there is no storage key" in message
    assert "system.1.key does not hold 32 bytes" in message


@pytest.mark.parametrize("kind", ["system", "storage", "audit"])
def test_a_missing_kind_is_refused_with_what_to_do(directory: Path, kind: str) -> None:
    (directory / f"{kind}.1.key").unlink()
    message, hint = refused(directory)
    assert f"there is no {kind} key" in message
    assert f"install -d -m 0700 {directory}" in hint
    there = contents(directory)
    assert os.system(hint.partition("; and")[0]) == 0  # noqa: S605 - the very command that is shown
    assert set(contents(directory)) == {*there, f"{kind}.1.key"}
    assert contents(directory).items() >= there.items(), "a key that is there was overwritten"


def test_the_command_that_is_shown_overwrites_nothing(directory: Path) -> None:
    _, hint = refused(directory / "none")
    there = contents(directory)
    os.system(hint.partition("; and")[0].replace("/none", ""))  # noqa: S605 - the very command that is shown
    assert contents(directory) == there


def test_a_missing_directory_is_refused_with_what_to_do_and_that_works(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    message, hint = refused(missing)
    assert "No such file or directory" in message
    assert os.system(hint.partition("; and")[0]) == 0  # noqa: S605 - the very command that is shown
    assert FileServiceKeys(missing).newest(ServiceKey.SYSTEM) == "1"


def test_a_directory_that_others_can_change_is_refused(directory: Path) -> None:
    directory.chmod(0o770)
    assert "can change" in refused(directory)[0]


def test_the_same_key_for_both_layers_is_refused(directory: Path) -> None:
    put(directory, "storage.2.key", (directory / "system.1.key").read_bytes())
    assert "serve as system key and as storage key" in refused(directory)[0]


def test_the_same_key_under_two_ids_is_refused(directory: Path) -> None:
    put(directory, "storage.2.key", (directory / "storage.1.key").read_bytes())
    message, hint = refused(directory)
    assert "two storage keys" in message
    assert "replaces nothing" in hint


def test_fingerprints_tell_another_key_under_the_same_id(directory: Path) -> None:
    first = FileServiceKeys(directory).fingerprints()
    assert first.keys() == {(kind, "1") for kind in ServiceKey}
    assert FileServiceKeys(directory).fingerprints() == first
    put(directory, "system.1.key")
    second = FileServiceKeys(directory).fingerprints()
    assert second[ServiceKey.SYSTEM, "1"] != first[ServiceKey.SYSTEM, "1"]
    assert second[ServiceKey.STORAGE, "1"] == first[ServiceKey.STORAGE, "1"]


def test_fingerprints_depend_on_kind_and_id_and_stay_the_same_from_version_to_version(directory: Path) -> None:
    (directory / "system.1.key").unlink()
    first = put(directory, "system.a.key", b"k" * 32)
    found = dict(FileServiceKeys(directory).fingerprints())
    first.rename(directory / "system.b.key")
    found |= FileServiceKeys(directory).fingerprints()
    assert found[ServiceKey.SYSTEM, "a"] != found[ServiceKey.SYSTEM, "b"]
    label = b"byokd service key fingerprint v1/system/a"
    assert found[ServiceKey.SYSTEM, "a"] == hmac.new(b"k" * 32, label, "sha256").digest()[:16]


def test_nothing_is_shown(directory: Path) -> None:
    content = (directory / "system.1.key").read_bytes()
    keys = FileServiceKeys(directory)
    assert repr(content)[2:-1] not in repr(keys)
    put(directory, "system.1.key", content + b"\n")
    assert repr(content)[2:-1] not in refused(directory)[0]
