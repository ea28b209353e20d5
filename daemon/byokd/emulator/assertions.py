"""Client assertions: what an application shows in place of a secret, and whether Entra ID accepts it."""

import hashlib
from typing import Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.types import Options

from byokd.emulator.material import encode
from byokd.emulator.principals import Federation, Principal
from byokd.emulator.tokens import LOGIN_HOSTS, TokenAuthority

_SKEW_SECONDS: Final = 300
"""How far the clock of a client may be off (documentation)."""
_ALGORITHMS: Final = ["RS256", "PS256", "ES256"]


class UnacceptableError(Exception):
    """The assertion is refused; `code` is the AADSTS number and the text its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check_assertion(
    assertion: str, principal: Principal, *, tenant: str, authority: TokenAuthority, now: float
) -> None:
    """Accept an assertion signed by a registered certificate, or by an issuer that the application trusts."""
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise UnacceptableError(50027, "JWT token is invalid or malformed.") from None
    if not float(claims.get("nbf", 0)) - _SKEW_SECONDS <= now < float(claims.get("exp", 0)) + _SKEW_SECONDS:
        raise UnacceptableError(700024, "Client assertion is not within its valid time range.")
    if claims.get("iss") == principal.client_id:
        _check_certificate(assertion, header, principal, tenant, now)
    else:
        _check_federation(assertion, claims, principal, authority)


def _check_certificate(
    assertion: str, header: dict[str, object], principal: Principal, tenant: str, now: float
) -> None:
    refused = UnacceptableError(
        700027, "The certificate with identifier used to sign the client assertion is not registered on application."
    )
    audiences = [f"https://{host}/{tenant}/{end}" for host in LOGIN_HOSTS for end in ("oauth2/v2.0/token", "v2.0")]
    for pem in principal.credentials.certificates:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        der = certificate.public_bytes(serialization.Encoding.DER)
        if str(header.get("x5t#S256", "")).rstrip("=") == encode(hashlib.sha256(der).digest()):
            if now >= certificate.not_valid_after_utc.timestamp():
                raise UnacceptableError(
                    700027,
                    "The certificate with identifier used to sign the client assertion is expired on application. "
                    "[Reason - The key used is expired.]",
                )
            return _check_signature(assertion, certificate.public_key(), audiences, refused)
    raise refused


def _check_federation(
    assertion: str, claims: dict[str, object], principal: Principal, authority: TokenAuthority
) -> None:
    federations = principal.credentials.federations
    if not federations:
        message = "The client has no configured federated identity credentials."
        raise UnacceptableError(70025, message)
    of_issuer = [one for one in federations if claims.get("iss") == one.issuer]
    if not of_issuer:
        raise _no_match(700211, "issuer", claims.get("iss"))
    trusted = next((one for one in of_issuer if claims.get("sub") == one.subject), None)
    if trusted is None:
        raise _no_match(700213, "subject", claims.get("sub"))
    if trusted.audience not in _listed(claims.get("aud")):
        raise _no_match(700212, "audience", claims.get("aud"))
    invalid = UnacceptableError(50013, "Assertion failed signature validation.")
    _check_signature(assertion, _issuer_key(trusted, authority), [trusted.audience], invalid)


def _no_match(code: int, what: str, found: object) -> UnacceptableError:
    return UnacceptableError(
        code,
        f"No matching federated identity record found for presented assertion {what} '{found}'. Check your federated "
        "identity credential Subject, Audience and Issuer against the presented assertion.",
    )


def _listed(audience: object) -> list[object]:
    return audience if isinstance(audience, list) else [audience]


def _issuer_key(trusted: Federation, authority: TokenAuthority) -> object:
    pem = authority.public_key_pem() if trusted.public_key is None else trusted.public_key
    return serialization.load_pem_public_key(pem.encode())


def _check_signature(assertion: str, key: object, audiences: list[str], refused: UnacceptableError) -> None:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise refused
    times: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    try:
        jwt.decode(assertion, key, algorithms=_ALGORITHMS, audience=audiences, options=times)
    except jwt.InvalidTokenError:
        raise refused from None
