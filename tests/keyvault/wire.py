"""What Key Vault, and whoever else is on the way, says on the wire of one key with two versions."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from byokd.domain.identifiers import KeyVersion
from byokd.domain.verdict import Probe
from domain.scenes import KEY, watch
from keyvault.double import Double, answer, challenge

WRAPPING, NEWER = KeyVersion("1" * 32), KeyVersion("2" * 32)
PROBE, WRAPPED = b"p" * 32, b"w" * 256
PAST, FUTURE = 1_600_000_000, 4_000_000_000
MADE, MADE_BEFORE, MADE_LATER = 1_767_225_600, 1_700_000_000, 1_780_000_000
OTHER_TENANT = "99999999-9999-9999-9999-999999999999"

_VERSION = replace(
    watch().versions[0],
    version=WRAPPING,
    created=datetime.fromtimestamp(MADE, UTC),
    probe=Probe(WRAPPED, hashlib.sha256(PROBE).digest()),
)
WATCH = replace(watch(), versions=(_VERSION,), adopted=frozenset({WRAPPING}))
TENANT = WATCH.tenant

Wire = bytes | Callable[[str], bytes]
"""An answer, or what gives one to a request."""


def encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def kid(version: str = WRAPPING, *, host: str = KEY.host, name: str = KEY.name) -> str:
    return f"https://{host}/keys/{name}/{version}"


def value(octets: bytes, **changes: object) -> bytes:
    """The answer to wrapKey and unwrapKey."""
    return answer(200, {"kid": kid(), "value": encoded(octets), **changes})


def key(
    version: str = WRAPPING, *, made: int = MADE, bits: int = 2048, ops: str = "wrapKey unwrapKey", **more: object
) -> bytes:
    """The answer to GET; `more` are attributes, but for `kty` and `kid`."""
    told = {"kid": more.pop("kid", kid(version)), "kty": more.pop("kty", "RSA"), "e": "AQAB"}
    told |= {"n": encoded(b"\xff" * (bits // 8)), "key_ops": ops.split()}
    attributes = {"enabled": True, "created": made, "recoveryLevel": "Recoverable", **more}
    return answer(200, {"key": told, "attributes": attributes})


def newer(**changes: object) -> bytes:
    return key(NEWER, made=MADE_LATER, **changes)


def error(status: int, code: str, inner: object = None, message: str = "no", **headers: str) -> bytes:
    body = {"error": {"code": code, "message": message, **({} if inner is None else {"innererror": inner})}}
    return answer(status, body, **headers)


def forbidden(inner: str | None = None, **headers: str) -> bytes:
    return error(403, "Forbidden", None if inner is None else {"code": inner}, **headers)


def unauthorised(message: str, *, tenant: str = TENANT, more: str = "") -> bytes:
    """A 401 to a request that bore a token, with the challenge."""
    told = (
        f'Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="https://vault.azure.net"{more}'
    )
    return error(401, "Unauthorized", message=message, www_authenticate=told)


def page(status: int, **headers: str) -> bytes:
    """A proxy's page, without Key Vault's headers unless told otherwise."""
    told = {"x_ms_request_id": "", "content_type": "text/html", **headers}
    return answer(status, b"<html><body>Access Denied by your gateway</body></html>", **told)


def cut(whole: bytes) -> bytes:
    """All is promised, a part is sent, and then the connection ends."""
    return whole[:-20] + Double.HANG_UP


def once(refused: bytes) -> Callable[[str], bytes]:
    """The first token is refused, a fresh one is not."""
    return lambda request: OPENED if "secret-token-2" in request else refused


CHALLENGE, HEALTHY, OPENED = challenge(TENANT), key(), value(PROBE)
GONE = error(404, "KeyNotFound")
BAD = error(400, "BadParameter")
THROTTLED = error(429, "Throttled")
DISABLED, EXPIRED, EARLY = key(enabled=False), key(exp=PAST), key(nbf=FUTURE)
WRONG_ISSUER, UNKNOWN_SIGNATURE = "AKV10032: Invalid issuer.", "AKV10046: Unable to resolve the key"
CLAIMS = ', error="insufficient_claims", claims="eyJhIjoxfQ=="'
REVOKED = unauthorised("TokenIssuedBeforeRevocationTimestamp", more=CLAIMS)


def speaking(
    *,
    first: Wire = CHALLENGE,
    unwrap: Wire = OPENED,
    get: Wire = HEALTHY,
    own: Wire = HEALTHY,
    wrap: Wire | None = None,
) -> Callable[[str], bytes]:
    """A server that answers by what it is asked: without a token, unwrapKey, GET of the newest or wrapping version."""
    wrapped: list[str] = []

    def say(request: str) -> bytes:
        if "authorization:" not in request.lower():
            told = first
        elif "/wrapkey?" in request:
            wrapped.append(json.loads(request.partition("\r\n\r\n")[2])["value"])
            told = value(WRAPPED, kid=kid(NEWER)) if wrap is None else wrap
        elif f"/{NEWER}/unwrapkey?" in request:
            told = answer(200, {"kid": kid(NEWER), "value": wrapped[-1]})
        elif "/unwrapkey?" in request:
            told = unwrap
        else:
            told = own if re.match(rf"GET /keys/[^/]+/{WRAPPING}\?", request) else get
        return told(request) if callable(told) else told

    return say
