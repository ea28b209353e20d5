"""What applications prove themselves with: certificates of their own, and tokens of a platform that they trust."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

ISSUER = "https://oidc.prod-aks.example/cluster/"
SUBJECT = "system:serviceaccount:byokd:byokd"
AUDIENCE = "api://AzureADTokenExchange"


@cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:  # noqa: ARG001 - it is what the cache tells keys apart by
    """The key of that number, made once: it takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *form)


def public_pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A PEM file with certificate and key, and the certificate alone as the application registers it."""

    path: Path
    public: str


def own_certificate(
    path: Path, *, key: int = 0, ends_in: timedelta = timedelta(days=90), holds: timedelta = timedelta(days=365)
) -> OwnCertificate:
    """Write a self-signed certificate with its key, for its owner alone."""
    private, name = rsa_key(key), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "platform")])
    end = datetime.now(UTC) + ends_in
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - holds)
        .not_valid_after(end)
        .sign(private, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private_pem(private) + public)
    return OwnCertificate(path, public.decode())


def service_account_token(
    *, issuer: str = ISSUER, subject: str = SUBJECT, audience: str = AUDIENCE, key: int = 1, seconds: int = 3600
) -> str:
    """A token as Kubernetes mounts it into a pod."""
    now = int(time.time())
    claims = {"iss": issuer, "sub": subject, "aud": [audience], "iat": now, "nbf": now, "exp": now + seconds}
    return jwt.encode(claims, rsa_key(key), algorithm="RS256")
