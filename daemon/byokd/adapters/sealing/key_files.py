"""The service's own keys in files: `system.<id>.key` and `storage.<id>.key`, 32 random bytes each."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from byokd.ports import ServiceKey, ServiceKeyMissingError, ServiceKeysUnusableError

KEY_BYTES: Final = 32
"""AES-256."""

_NAME: Final = re.compile(r"(?P<kind>system|storage)\.(?P<id>[a-z0-9][a-z0-9-]{0,31})\.key", re.ASCII)
_DIGITS: Final = re.compile(r"(\d+)", re.ASCII)


class FileServiceKeys:
    """The keys of a directory, read once.

    Several ids of a kind can be live. The newest one seals: the greatest in natural order, in which runs of digits
    count as numbers (`9` before `10`, `2025-12` before `2026-01`).
    """

    def __init__(self, directory: Path) -> None:
        """Read them.

        Raises:
            ServiceKeysUnusableError: the directory or a kind of key is missing, a file is not a key, or others than
                its owner can read it (or change the directory).
        """
        self._directory = directory
        self._keys: Mapping[ServiceKey, Mapping[str, bytes]] = {
            kind: dict(sorted(_read_kind(directory, kind), key=lambda pair: _natural(pair[0]))) for kind in ServiceKey
        }
        for kind, keys in self._keys.items():
            if not keys:
                raise ServiceKeysUnusableError(f"there is no {kind} key in {directory}", hint=_how_to_make(directory))
        if shared := set(self._keys[ServiceKey.SYSTEM].values()) & set(self._keys[ServiceKey.STORAGE].values()):
            raise ServiceKeysUnusableError(
                f"{len(shared)} key(s) in {directory} serve as system key and as storage key",
                hint="make each key of its own random bytes; the second layer is worth nothing otherwise",
            )

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


def _read_kind(directory: Path, kind: ServiceKey) -> Iterator[tuple[str, bytes]]:
    try:
        if directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ServiceKeysUnusableError(
                f"others than its owner can change {directory}", hint=f"chmod go-w {directory}"
            )
        paths = sorted(path for path in directory.iterdir() if path.name.startswith(f"{kind}."))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ServiceKeysUnusableError(
            f"the directory of the service keys cannot be read: {directory}: {reason}", hint=_how_to_make(directory)
        ) from None
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise ServiceKeysUnusableError(
                f"{path} is not named like a key",
                hint=f"name it {kind}.<id>.key with an id of lower-case letters, digits and hyphens, or move it away",
            )
        yield match["id"], _read(path)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(KEY_BYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ServiceKeysUnusableError(
            f"{path} cannot be read: {reason}", hint="it must belong to the user that runs byokd, mode 0600 or 0400"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ServiceKeysUnusableError(
            f"others than its owner can read {path}",
            hint=f"chmod 0600 {path}; if others may have read it, add a key under a new id",
        )
    if len(content) != KEY_BYTES:
        raise ServiceKeysUnusableError(
            f"{path} does not hold {KEY_BYTES} bytes", hint="a key is raw bytes, neither base64 nor with a line break"
        )
    return content


def _natural(key_id: str) -> tuple[tuple[tuple[str, int], ...], str]:
    # Text and digits alternate, so like is compared with like; the id itself decides between `1` and `01`.
    parts = _DIGITS.split(key_id)
    pairs = zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True)
    return tuple(pairs), key_id


def _how_to_make(directory: Path) -> str:
    make = f"(umask 077; head -c {KEY_BYTES} /dev/urandom > {directory}/$kind.1.key)"
    return f"install -d -m 0700 {directory} && for kind in system storage; do {make}; done; and back them up safely"
