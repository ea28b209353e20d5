"""Notes every secret that a program under test makes, is given or sends, for the scan of all that it says.

Python runs this file by its name in every child process whose PYTHONPATH leads here (`parts/leaks.py` sees to it); the
tests' own process begins it by hand. Nothing is loaded for it: a class is watched when somebody imports it. A secret is
kept as a few short pieces of its encodings, which are enough to find it and too little to be one.
"""

import base64
import functools
import importlib.abc
import importlib.machinery
import inspect
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

PLACE = "TESTS_NOTE_SECRETS_IN"
"""Names the directory where child processes write what they note, each into a file of its own."""

PIECE = 16
"""Characters of each piece: twelve octets in base64, eight in hexadecimal."""

MOST = 200_000
"""Pieces known at once in one process; beyond them the oldest is forgotten."""

MOST_OF_A_TEST = 20_000
"""Pieces noted in one test: the simulation seals more than is ever said about it."""

_OCTETS = 12
_LEAST_DISTINCT = 6
"""Test data such as `b"w" * 256` is no secret, and looks like what everybody says."""

WATCHED = {
    "byokd.adapters.sealing.sealer": ("AesGcmSealer", ("seal", "open")),
    "byokd.adapters.sealing.key_files": ("FileServiceKeys", ("key",)),
    "byokd.adapters.keyvault.service": ("AzureKeyService", ("wrap", "unwrap")),
    "byokd.adapters.identity.credentials": ("Credentials", ("token",)),
    "byokd.emulator.tokens": ("TokenAuthority", ("issue",)),
}
"""By module: a class, and its methods whose octets and tokens, in and out, are secrets."""

noted: OrderedDict[str, None] = OrderedDict()
room = [MOST]
"""How many more may be noted; a test begins with `MOST_OF_A_TEST`, a child process has one room for its life."""


def note(secret: object) -> None:
    """Keep the pieces of a secret: octets, or a token."""
    if room[0] <= 0:
        return
    found: set[str] = set()
    if isinstance(secret, str) and secret.count(".") == 2:
        _, claims, signature = secret.split(".")
        found = {claims[:PIECE], signature[:PIECE], signature[-PIECE:]}
    elif isinstance(secret, bytes) and len(secret) >= PIECE:
        for at in (0, (len(secret) // 2) // 3 * 3):
            found |= pieces(secret[at : at + _OCTETS])
    new = {piece for piece in found if len(piece) == PIECE and piece not in noted}
    if new:
        room[0] -= len(new)
        remember(new)
        if (place := os.environ.get(PLACE)) is not None and not _is_scanner:
            _file_in(place).write("".join(f"{piece}\n" for piece in new))


def remember(new: Iterable[str]) -> None:
    """Keep pieces, and forget the oldest beyond MOST."""
    noted.update(dict.fromkeys(new))
    while len(noted) > MOST:
        noted.popitem(last=False)


@functools.cache
def _opened(place: str, _: int) -> TextIO:
    path = Path(place, f"{os.getpid()}")
    return path.open("a", buffering=1)


def _file_in(place: str) -> TextIO:
    """Give this process's file; a forked one has its own. It is written to at once: processes get killed."""
    return _opened(place, os.getpid())


def pieces(octets: bytes) -> set[str]:
    """Give the beginnings of what these octets look like in text."""
    if len(octets) < _OCTETS or len(set(octets)) < _LEAST_DISTINCT:
        return set()
    plain = base64.b64encode(octets).decode()
    shown = repr(octets)[2:-1]
    texts = (plain, base64.urlsafe_b64encode(octets).decode(), octets.hex(), octets.hex().upper(), shown)
    return {text[:PIECE] for text in texts}


_is_scanner = False


def begin(*, scanner: bool = False) -> None:
    """Watch classes from now on; the scanner keeps what it notes to itself."""
    global _is_scanner  # noqa: PLW0603 - there is one per process
    _is_scanner = scanner
    if not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())
        for module, (owner, methods) in WATCHED.items():
            if module in sys.modules:
                _watch(getattr(sys.modules[module], owner), methods)


class _Watcher(importlib.abc.MetaPathFinder):
    """Finds watched modules as Python does, and wraps their methods when they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_watch(module: ModuleType) -> None:
                load(module)
                name, methods = WATCHED[fullname]
                _watch(getattr(module, name), methods)

            spec.loader.exec_module = load_and_watch  # type: ignore[method-assign]
        return spec


def _watch(owner: type, methods: Sequence[str]) -> None:
    for name in methods:
        setattr(owner, name, _noting(getattr(owner, name)))


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    def heard(*values: object) -> None:
        for value in values:
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, bytes | str):
                    note(one)

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def waiting(self: object, *values: object, **named: object) -> object:
            heard(*values)
            given = await method(self, *values, **named)
            heard(given)
            return given

        return waiting

    @functools.wraps(method)
    def direct(self: object, *values: object, **named: object) -> object:
        heard(*values)
        given = method(self, *values, **named)
        heard(given)
        return given

    return direct


if os.environ.get(PLACE) and __name__ == "sitecustomize":
    begin()
