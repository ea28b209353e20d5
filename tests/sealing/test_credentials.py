"""Service keys as systemd and Kubernetes hand them over: real files, links and access control lists."""

import errno
import os
import struct
from pathlib import Path

import pytest

from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.place import DEFAULT, key_directory
from byokd.ports import ServiceKey, ServiceKeysUnusableError
from byokd.settings import ServiceKeySettings

STRANGER = 54321
OWNER, USER, GROUP, GROUP_NAMED, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF


def put(directory: Path, *names: str, mode: int = 0o400) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        (directory / name).write_bytes(os.urandom(32))
        (directory / name).chmod(mode)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    put(directory, *(f"{kind}.1.key" for kind in ServiceKey), "mqtt-password", "tls.crt")
    directory.chmod(0o500)
    return directory


def refused(directory: Path) -> str:
    with pytest.raises(ServiceKeysUnusableError) as raised:
        FileServiceKeys(directory)
    return str(raised.value)


def test_the_keys_are_where_the_settings_say_else_in_the_credentials_else_in_etc(
    credentials: Path, tmp_path: Path
) -> None:
    unset, given = ServiceKeySettings(), {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert key_directory(ServiceKeySettings(directory=tmp_path), given) == tmp_path
    assert key_directory(unset, given) == credentials
    assert key_directory(unset, {}) == DEFAULT == Path("/etc/byokd/keys")
    assert key_directory(unset, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) == DEFAULT


def test_credentials_that_hold_no_key_leave_the_keys_in_etc(tmp_path: Path) -> None:
    put(tmp_path / "credentials", "mqtt-password")
    assert key_directory(ServiceKeySettings(), {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}) == DEFAULT


def test_a_misnamed_key_among_the_credentials_is_found_and_named_and_the_rest_ignored(tmp_path: Path) -> None:
    put(tmp_path / "credentials", "storage.key", "mqtt-password")
    found = key_directory(ServiceKeySettings(), {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    message = refused(found)
    assert "storage.key is not named like a key" in message
    assert "there is no system key" in message
    assert "mqtt-password" not in message


def test_keys_among_other_credentials_are_read(credentials: Path) -> None:
    keys = FileServiceKeys(credentials)
    assert keys.key(ServiceKey.AUDIT, "1") == (credentials / "audit.1.key").read_bytes()


def secret(tmp_path: Path) -> Path:
    """A directory as Kubernetes mounts a secret."""
    mounted = tmp_path / "secret"
    mounted.mkdir(mode=0o755)
    put(mounted / "..2026_11_22", *(f"{kind}.1.key" for kind in ServiceKey))
    (mounted / "..data").symlink_to("..2026_11_22")
    for kind in ServiceKey:
        (mounted / f"{kind}.1.key").symlink_to(f"..data/{kind}.1.key")
    return mounted


def test_links_of_a_mounted_secret_are_followed(tmp_path: Path) -> None:
    mounted = secret(tmp_path)
    keys = FileServiceKeys(mounted)
    assert keys.key(ServiceKey.SYSTEM, "1") == (mounted / "..2026_11_22/system.1.key").read_bytes()


@pytest.mark.parametrize(
    "target", ["../outside/system.1.key", "..data/storage.1.key", "..data/none.key", "system.2.key", "..data"]
)
def test_other_links_are_refused(tmp_path: Path, target: str) -> None:
    mounted = secret(tmp_path)
    put(tmp_path / "outside", "system.1.key")
    put(mounted, "system.2.key")
    (mounted / "system.1.key").unlink()
    (mounted / "system.1.key").symlink_to(target)
    assert "system.1.key is not a regular file" in refused(mounted)


def test_what_a_link_leads_to_must_be_private_too(tmp_path: Path) -> None:
    mounted = secret(tmp_path)
    (mounted / "..2026_11_22/audit.1.key").chmod(0o440)
    assert f"others than its owner can read {mounted}/audit.1.key" in refused(mounted)


def test_a_key_of_another_user_is_refused(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = credentials / "storage.1.key"
    mine = path.stat().st_uid
    if mine == 0:
        os.chown(path, STRANGER, -1)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER + 1)
    assert f"{path} belongs to another user" in refused(credentials)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid)
    assert FileServiceKeys(credentials).newest(ServiceKey.STORAGE) == "1"


def control_list(path: Path, *named: tuple[int, int, int], group: int = 0, other: int = 0) -> None:
    """Set an access control list, as systemd does where the file system has them."""
    entries = [(OWNER, 4, NOBODY), *named, (GROUP, group, NOBODY), (MASK, 4, NOBODY), (OTHER, other, NOBODY)]
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    try:
        os.setxattr(path, "system.posix_acl_access", content)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("the file system of temporary files has no access control lists")
        raise


def test_a_list_that_lets_this_user_read_is_what_systemd_makes(credentials: Path) -> None:
    path = credentials / "system.1.key"
    control_list(path, (USER, 4, os.geteuid()))
    assert path.stat().st_mode & 0o777 == 0o440
    assert FileServiceKeys(credentials).key(ServiceKey.SYSTEM, "1") == path.read_bytes()


@pytest.mark.parametrize(
    ("named", "group"),
    [((USER, 4, STRANGER), 0), ((GROUP_NAMED, 4, STRANGER), 0), ((USER, 4, 0), 4)],
    ids=["another user", "a group", "the file's group"],
)
def test_a_list_that_lets_others_read_is_refused(credentials: Path, named: tuple[int, int, int], group: int) -> None:
    path = credentials / "system.1.key"
    control_list(path, named, group=group)
    assert f"others than its owner can read {path}" in refused(credentials)


def test_a_directory_that_all_may_write_is_taken_where_it_is_mounted_for_reading_only(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.chmod(0o1777)
    assert "others than its owner can change" in refused(credentials)
    found = os.statvfs(credentials)
    read_only = os.statvfs_result((*found[:8], found.f_flag | os.ST_RDONLY, found[9]))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert FileServiceKeys(credentials).newest(ServiceKey.SYSTEM) == "1"
