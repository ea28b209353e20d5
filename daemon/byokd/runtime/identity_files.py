"""Files that identities prove themselves with: a certificate with its key, a federated token. Never shown."""

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from byokd.settings.access import is_private

MOST_BYTES: Final = 256 * 1024
"""A certificate with a long chain has some 20 KB."""

_RIGHT: Final = (
    "write the path of a PEM file with the certificate and its RSA key, without a passphrase, of mode 0600 or a "
    "credential of systemd"
)
_RIGHT_TOKEN: Final = "write the path that the platform keeps the federated token in"  # noqa: S105 - words


@dataclass(frozen=True, slots=True)
class _Unfit(Exception):  # noqa: N818 - it is a finding, not a failure
    """Why a file cannot be used; nothing of what it holds."""

    message: str


def flaw_of_certificate(path: Path) -> str | None:
    """Say why an identity cannot use a certificate's file; None when it can. Its dates are not looked at."""
    try:
        _certificate(path)
    except _Unfit as error:
        return f"{error.message}; {_RIGHT}"
    return None


def flaw_of_token_file(path: Path) -> str | None:
    """Say why an identity cannot use the file of a federated token; None when it can."""
    try:
        text = _read(path).decode("ascii")
    except _Unfit as error:
        return f"{error.message}; {_RIGHT_TOKEN}"
    except UnicodeDecodeError:
        text = ""
    # Header, claims and signature of a JWT. What they say is for Entra ID to judge.
    return None if text.strip().count(".") == 2 else f"holds no token (a JWT); {_RIGHT_TOKEN}"  # noqa: PLR2004


def certificate_times(path: Path) -> tuple[datetime, datetime] | None:
    """Tell from when and until when the certificate of an identity holds; None when its file cannot be used."""
    try:
        certificate = _certificate(path)
    except _Unfit:
        return None
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _certificate(path: Path) -> x509.Certificate:
    """Read as azure-identity does: the first certificate and the first key of the file. They must fit each other."""
    content = _read(path, private=True)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, UnsupportedAlgorithm):
        raise _Unfit("holds no private key in PEM, or a broken one") from None
    except TypeError:
        raise _Unfit("its private key wants a passphrase") from None
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError:
        raise _Unfit("holds no PEM certificate, or a broken one") from None
    if not isinstance(key, RSAPrivateKey):
        raise _Unfit("its private key is no RSA key")
    if key.public_key() != certificate.public_key():
        raise _Unfit("its private key is not that of its first certificate")
    return certificate


def _read(path: Path, *, private: bool = False) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _Unfit("not a file")
            if private and not is_private(descriptor):
                raise _Unfit("others than its owner can read it, and with it the private key")
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not a path"
        raise _Unfit(f"cannot be read: {why}") from None
    if len(content) > MOST_BYTES:
        raise _Unfit(f"has more than {MOST_BYTES // 1024} KB")
    return content
