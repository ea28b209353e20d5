"""Installed packages made into wheels again, so that an installation can be tried without a network."""

import hashlib
import re
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", re.MULTILINE)
_OF_THE_INSTALLER = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}


def packed(requirements: Path, wheelhouse: Path) -> str:
    """Make a wheel of each pinned package that is installed here; give the same pins with the hashes of these wheels.

    What is not installed is meant for another platform.
    """
    lines = []
    for name, version in _PINNED.findall(requirements.read_text()):
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        assert found.version == version, f"{name}: run make setup"
        wheel = _pack(found, wheelhouse)
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return "".join(lines)


def _pack(found: Distribution, wheelhouse: Path) -> Path:
    files = [file for file in found.files or () if _belongs(file)]
    information = next(file.parent for file in files if file.parent.suffix == ".dist-info")
    tags = re.findall(r"^Tag: (.+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    wheel = wheelhouse / f"{information.stem}-{tags[0]}.whl"
    if wheel.exists():
        return wheel
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in files:
            archive.write(str(file.locate()), str(file))
        with archive.open(str(information / "RECORD"), "w") as record:
            record.write("".join(f"{file},,\n" for file in [*files, information / "RECORD"]).encode())
    return wheel


def _belongs(file: PurePosixPath) -> bool:
    return file.parts[0] != ".." and file.suffix != ".pyc" and file.name not in _OF_THE_INSTALLER
