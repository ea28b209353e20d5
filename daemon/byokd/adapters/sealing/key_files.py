"""The service's own keys in files: `system.<id>.key`, `storage.<id>.key`, `audit.<id>.key`, 32 random bytes each."""

import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from byokd.ports import ServiceKey, ServiceKeyMissingError, ServiceKeysUnusableError
from byokd.settings.access import is_private

KEY_BYTES: Final = 32
"""AES-256."""

CREDENTIAL_PREFIX: Final = "keys_"
"""What systemd puts before the names of a directory's files (LoadCredential=keys:...)."""

_NAME: Final = re.compile(
    rf"(?:{CREDENTIAL_PREFIX})?(?P<kind>{'|'.join(ServiceKey)})\.(?P<id>[a-z0-9][a-z0-9-]{{0,31}})\.key", re.ASCII
)
_DIGITS: Final = re.compile(r"(\d+)", re.ASCII)
_OPENING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FINGERPRINT_LABEL: Final = "byokd service key fingerprint v1"


@dataclass(frozen=True, slots=True)
class _Flaw:
    """Why something cannot be used, and what to do about it."""

    message: str
    hint: str


class FileServiceKeys:
    """The keys of a directory, read once.

    Several ids of a kind can be live. The newest one seals: the greatest in natural order, in which runs of digits
    count as numbers (`9` before `10`, `2025-12` before `2026-01`).
    """

    def __init__(self, directory: Path) -> None:
        """Read them.

        Raises:
            ServiceKeysUnusableError: the directory or a kind of key is missing, a file is not a key, or others than
                its owner can read it (or change the directory). Every such file is named.
        """
        self._directory = directory
        flaws: list[_Flaw] = []
        found: dict[ServiceKey, dict[str, bytes]] = {}
        names = _names(directory)
        for kind in ServiceKey:
            of_kind = [name for name in names if name.removeprefix(CREDENTIAL_PREFIX).startswith(f"{kind}.")]
            if not of_kind:
                flaws.append(_Flaw(f"there is no {kind} key in {directory}", _how_to_make(directory, kind)))
            found[kind] = _read_kind(directory, kind, names=of_kind, flaws=flaws)
        for one, other in combinations(ServiceKey, 2):
            if shared := set(found[one].values()) & set(found[other].values()):
                flaws.append(
                    _Flaw(
                        f"{len(shared)} key(s) in {directory} serve as {one} key and as {other} key",
                        "make each key of its own random bytes; what one protects the other must not open",
                    )
                )
        if flaws:
            hints = dict.fromkeys(flaw.hint for flaw in flaws)
            raise ServiceKeysUnusableError("; ".join(flaw.message for flaw in flaws), hint="; ".join(hints))
        self._keys: Mapping[ServiceKey, Mapping[str, bytes]] = found

    def newest(self, kind: ServiceKey) -> str:
        """Give the id of the key that seals."""
        return next(reversed(list(self._keys[kind])))

    def ids(self, kind: ServiceKey) -> tuple[str, ...]:
        """Give the ids of all live keys, the newest last."""
        return tuple(self._keys[kind])

    def key(self, kind: ServiceKey, key_id: str) -> bytes:
        """Give the bytes of a key.

        Raises:
            ServiceKeyMissingError: it is not there.
        """
        try:
            return self._keys[kind][key_id]
        except KeyError:
            raise ServiceKeyMissingError(f"the {kind} key {key_id!r} is not in {self._directory}") from None

    def fingerprints(self) -> Mapping[tuple[ServiceKey, str], bytes]:
        """Give a check value of 16 bytes per kind and id, from which the key cannot be had.

        The same key under the same kind and id gives the same value in every process: another value means that the
        key was replaced under its id.
        """
        return {
            (kind, key_id): hmac.digest(key, f"{_FINGERPRINT_LABEL}/{kind}/{key_id}".encode(), "sha256")[:16]
            for kind, keys in self._keys.items()
            for key_id, key in keys.items()
        }


def _names(directory: Path) -> list[str]:
    try:
        writable = directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # Kubernetes mounts secrets with open modes, but for reading only.
        if writable and not os.statvfs(directory).f_flag & os.ST_RDONLY:
            raise ServiceKeysUnusableError(
                f"others than its owner can change {directory}", hint=f"chmod go-w {directory}"
            )
        return sorted(path.name for path in directory.iterdir())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ServiceKeysUnusableError(
            f"the directory of the service keys cannot be read: {directory}: {reason}",
            hint=_how_to_make(directory, *ServiceKey),
        ) from None


def _read_kind(directory: Path, kind: ServiceKey, *, names: list[str], flaws: list[_Flaw]) -> dict[str, bytes]:
    """Give the keys by id, the newest last; what cannot be used is added to `flaws`."""
    keys: dict[str, bytes] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            hint = f"name it {kind}.<id>.key with an id of lower-case letters, digits and hyphens, or move it away"
            flaws.append(_Flaw(f"{directory / name} is not named like a key", hint))
            continue
        content = _read(directory / name)
        if isinstance(content, _Flaw):
            flaws.append(content)
        else:
            keys[match["id"]] = content
    if len(set(keys.values())) < len(keys):
        hint = "make each key of its own random bytes; a copy under a new id replaces nothing"
        flaws.append(_Flaw(f"two {kind} keys in {directory} are the same", hint))
    return dict(sorted(keys.items(), key=lambda pair: _natural(pair[0])))


def _read(path: Path) -> bytes | _Flaw:
    content = b""
    private = False
    try:
        place = _place_of(path)
        # Looked at first, because merely opening a device can do something.
        found = place.lstat()
        if stat.S_ISREG(found.st_mode):
            with open(os.open(place, _OPENING), "rb") as file:  # noqa: PTH123 - flags that Path.open cannot pass on
                found = os.fstat(file.fileno())
                private = is_private(file.fileno())
                content = file.read(KEY_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return _Flaw(
            f"{path} cannot be read: {reason}", "it must belong to the user that runs byokd, mode 0600 or 0400"
        )
    if not stat.S_ISREG(found.st_mode):
        return _Flaw(
            f"{path} is not a regular file",
            "put the key's file itself there, no pipe or device, and no link but to its namesake further down",
        )
    if os.geteuid() not in {0, found.st_uid} and found.st_uid != 0:
        return _Flaw(
            f"{path} belongs to another user", "it must belong to the user that runs byokd or to root; chown it"
        )
    if not private:
        return _Flaw(
            f"others than its owner can read {path}",
            f"chmod 0600 {path}; if others may have read it, add a key under a new id",
        )
    if len(content) != KEY_BYTES:
        return _Flaw(
            f"{path} does not hold {KEY_BYTES} bytes", "a key is raw bytes, neither base64 nor with a line break"
        )
    return content


def _place_of(path: Path) -> Path:
    """Follow links as Kubernetes makes them: down to a file of the same name within the same directory."""
    if not path.is_symlink():
        return path
    place = path.resolve()
    within = place.is_relative_to(path.parent.resolve()) and place.parent != path.parent.resolve()
    return place if within and place.name == path.name else path


def _natural(key_id: str) -> tuple[tuple[tuple[str, int], ...], str]:
    # Text and digits alternate, so like is compared with like; the id itself decides between `1` and `01`.
    parts = _DIGITS.split(key_id)
    pairs = zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True)
    return tuple(pairs), key_id


def _how_to_make(directory: Path, *kinds: ServiceKey) -> str:
    # set -C: whatever is there, the command must not overwrite a key, which would lose all that it sealed.
    make = f"(umask 077; set -C; head -c {KEY_BYTES} /dev/urandom > {directory}/$kind.1.key)"
    every = f"install -d -m 0700 {directory} && for kind in {' '.join(kinds)}; do {make}; done"
    return f"{every}; and back them up safely; but where a database is there already, put its keys back from a backup"
