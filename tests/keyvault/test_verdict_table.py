"""The verdict table: what the wire says of a key, and what byokd sees in it. Both ways to a vault, every row.

`unwrap`, `get` (the newest version), `own` (the wrapping version) and `wrap` are what the server answers to an
authorised request, `first` to one without a token. Unless told otherwise everything is well. Each look is the checker's
own, under the checker's own deadline, over TLS.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from azure.keyvault.keys._shared import http_challenge_cache

from byokd.adapters.keyvault.channel import TokenSource
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.decide import decide
from byokd.domain.identifiers import KeyVersion
from byokd.domain.verdict import Probe
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, WarningKind
from byokd.ports import ConsentWithdrawnError, KeyService, TokenUnavailableError
from byokd.runtime.checker import Checker, Round
from byokd.runtime.clock import SystemClock, SystemRandomness
from byokd.runtime.doubts import Doubts
from byokd.runtime.metrics import Metrics
from byokd.settings import VaultSettings
from domain.scenes import KEY, POLICY, watch
from keyvault.double import Double, Tokens, answer, challenge
from keyvault.way import ServiceOver

W, N = KeyVersion("1" * 32), KeyVersion("2" * 32)
SECRET = b"p" * 32
ON = watch()
PROBED = replace(
    ON,
    versions=(
        replace(
            ON.versions[0],
            version=W,
            created=datetime(2026, 1, 1, tzinfo=UTC),
            probe=Probe(b"w" * 256, hashlib.sha256(SECRET).digest()),
        ),
    ),
    adopted=frozenset({W}),
)
OTHER_TENANT = "99999999-9999-9999-9999-999999999999"
PAST, FUTURE = 1_600_000_000, 4_000_000_000
MODULUS = base64.urlsafe_b64encode(b"\xff" * 256).rstrip(b"=").decode()
SHORT = base64.urlsafe_b64encode(b"\xff" * 128).rstrip(b"=").decode()
HTML = b"<html><body>Access Denied by your gateway</body></html>"
DEADLINE = timedelta(milliseconds=150)

Answer = bytes | Iterable[bytes] | Callable[[str], bytes]
U, D, X = Outcome.USABLE, Outcome.DENIED, Outcome.UNVERIFIED


def kid(version: str = W, *, host: str = KEY.host, name: str = KEY.name) -> str:
    return f"https://{host}/keys/{name}/{version}"


def value(content: bytes, version: str = W, **more: object) -> bytes:
    encoded = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    return answer(200, {"kid": kid(version), "value": encoded, **more})


def key(
    version: str = W,
    *,
    kty: str = "RSA",
    n: str = MODULUS,
    key_ops: object = ("wrapKey", "unwrapKey"),
    created: int = 1_767_225_600,
    **attributes: object,
) -> bytes:
    told = {"enabled": True, "created": created, "recoveryLevel": "Recoverable", **attributes}
    return answer(
        200,
        {"key": {"kid": kid(version), "kty": kty, "n": n, "e": "AQAB", "key_ops": list(key_ops)}, "attributes": told},
    )


def error(status: int, code: str, inner: str | None = None, message: str = "no", **headers: str) -> bytes:
    body = {"error": {"code": code, "message": message, **({"innererror": {"code": inner}} if inner else {})}}
    return answer(status, body, **headers)


def forbidden(inner: str | None = None, **headers: str) -> bytes:
    return error(403, "Forbidden", inner, **headers)


def unauthorised(
    message: str, *, tenant: str = PROBED.tenant, more: str = "", resource: str = "https://vault.azure.net"
) -> bytes:
    told = f'Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="{resource}"{more}'
    return error(401, "Unauthorized", message=message, www_authenticate=told)


def cut(whole: bytes, *, at: int = -20) -> bytes:
    """Promise all, send a part. The server then hangs up."""
    return whole[:at] + Double.HANG_UP


def only(token: int, then: bytes, before: bytes) -> Callable[[str], bytes]:
    """Answer `before` until the request bears the token of that number."""
    return lambda request: then if f"secret-token-{token}" in request else before


GONE = error(404, "KeyNotFound")
OPENED = value(SECRET)
CLAIMS = ', error="insufficient_claims", claims="eyJhIjoxfQ=="'
EXPIRED, EARLY, OFF = key(exp=PAST), key(nbf=FUTURE), key(enabled=False)


@dataclass(frozen=True)
class Row:
    """A situation; what the server says; what is seen, and what is amiss although it lives."""

    situation: str
    outcome: Outcome
    reason: Reason | None = None
    unwrap: Answer = OPENED
    get: Answer = field(default_factory=key)
    own: Answer = field(default_factory=key)
    wrap: Answer = field(default_factory=lambda: value(b"x" * 256, N))
    first: Answer | None = None
    tokens: TokenSource | None = None
    warning: WarningKind | None = None
    adopts: bool = False


class NoTokens:
    """A source that has none."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def token(self, identity: str, **_: object) -> str:
        raise self.error


NEWER = {"created": 1_780_000_000}
UNUSABLE, UNSEEN = WarningKind.NEWEST_VERSION_UNUSABLE, WarningKind.NEW_VERSIONS_UNSEEN

TABLE = [
    Row("healthy", U),
    Row(
        "healthy, in another case",
        U,
        unwrap=answer(200, {"kid": kid(name=KEY.name.upper()), "value": "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA"}),
    ),
    Row("a newer version that is fit", U, get=key(N, **NEWER), adopts=True),
    Row("a newer version that is disabled", U, get=key(N, enabled=False, **NEWER), warning=UNUSABLE),
    Row("a newer version that is expired", U, get=key(N, exp=PAST, **NEWER), warning=UNUSABLE),
    Row("a newer version that is not yet valid", U, get=key(N, nbf=FUTURE, **NEWER), warning=UNUSABLE),
    Row("a newer version that may not wrap", U, get=key(N, key_ops=["unwrapKey"], **NEWER), warning=UNUSABLE),
    Row("a newer version on a curve", U, get=key(N, kty="EC", **NEWER), warning=UNUSABLE),
    Row(
        "a newer version that is too short",
        U,
        get=key(N, n=SHORT, **NEWER),
        warning=UNUSABLE,
    ),
    Row("a newer version with which wrapping is refused", U, get=key(N, **NEWER), wrap=forbidden(), warning=UNUSABLE),
    Row("a newer version, and wrapping is throttled", U, get=key(N, **NEWER), wrap=error(429, "Throttled")),
    Row("a stale read shows an older version", U, get=key(N, created=1_700_000_000)),
    Row("unwrap works, GET is refused", U, get=forbidden("ForbiddenByRbac"), warning=UNSEEN),
    Row("unwrap works, GET finds nothing: a stale read", U, get=GONE, warning=UNSEEN),
    Row("unwrap works, GET is throttled", U, get=error(429, "Throttled")),
    Row("unwrap works though disabled: not yet enforced", U, get=OFF),
    Row("expired, and still unwraps", U, get=EXPIRED, warning=WarningKind.KEY_EXPIRED),
    Row("not yet valid, and still unwraps", U, get=EARLY, warning=WarningKind.KEY_NOT_YET_VALID),
    # what the vault says of the key
    Row("disabled", D, Reason.KEY_DISABLED, unwrap=forbidden("KeyDisabled"), get=OFF),
    Row("disabled, and GET is refused too", D, Reason.KEY_DISABLED, unwrap=forbidden("KeyDisabled"), get=forbidden()),
    Row("disabled, without inner codes", D, Reason.KEY_DISABLED, unwrap=forbidden(), get=OFF),
    Row("the old version disabled, a newer one there", D, Reason.KEY_DISABLED, unwrap=forbidden(), get=key(N), own=OFF),
    Row("expired, and refused", D, Reason.KEY_EXPIRED, unwrap=forbidden(), get=EXPIRED),
    Row("not yet valid, and refused", D, Reason.KEY_NOT_YET_VALID, unwrap=forbidden(), get=EARLY),
    Row(
        "key_ops lack unwrapKey",
        D,
        Reason.KEY_OPERATION_NOT_PERMITTED,
        unwrap=forbidden("KeyOperationForbidden"),
        get=key(key_ops=["wrapKey"]),
    ),
    Row("access policy", D, Reason.ACCESS_DENIED, unwrap=forbidden("AccessDenied")),
    Row("access policy, the other code", D, Reason.ACCESS_DENIED, unwrap=forbidden("ForbiddenByPolicy")),
    Row("role", D, Reason.ACCESS_DENIED, unwrap=forbidden("ForbiddenByRbac")),
    Row("both refused", D, Reason.ACCESS_DENIED, unwrap=forbidden("ForbiddenByRbac"), get=forbidden("ForbiddenByRbac")),
    Row("an inner code that nobody knows", D, Reason.ACCESS_DENIED, unwrap=forbidden("ForbiddenByMoonPhase")),
    Row("no inner code", D, Reason.ACCESS_DENIED, unwrap=forbidden()),
    Row(
        "an inner code that is none",
        D,
        Reason.ACCESS_DENIED,
        unwrap=answer(403, {"error": {"code": "Forbidden", "innererror": 7}}),
    ),
    Row("refused, and GET is throttled", D, Reason.ACCESS_DENIED, unwrap=forbidden(), get=error(429, "Throttled")),
    Row(
        "refused with the region's header alone",
        D,
        Reason.ACCESS_DENIED,
        unwrap=forbidden(x_ms_request_id="", x_ms_keyvault_region="westeurope"),
    ),
    Row("firewall", D, Reason.NETWORK_BLOCKED, unwrap=forbidden("ForbiddenByFirewall")),
    Row("firewall, told before any token", D, Reason.NETWORK_BLOCKED, first=forbidden("ForbiddenByFirewall")),
    Row(
        "public access closed",
        D,
        Reason.NETWORK_BLOCKED,
        unwrap=forbidden("ForbiddenByConnection"),
        get=forbidden("ForbiddenByConnection"),
    ),
    Row("deleted or purged", D, Reason.KEY_NOT_FOUND, unwrap=GONE, get=GONE),
    Row("not found, and GET is refused", D, Reason.KEY_NOT_FOUND, unwrap=GONE, get=forbidden()),
    Row("deleted and made anew", D, Reason.KEY_VERSION_NOT_FOUND, unwrap=GONE, get=key(N, **NEWER), own=GONE),
    Row("another value", D, Reason.PROBE_MISMATCH, unwrap=value(b"q" * 32)),
    Row("a wrap that is called invalid", D, Reason.PROBE_MISMATCH, unwrap=error(400, "BadParameter")),
    Row(
        "the token's tenant is wrong, with a fresh one too",
        D,
        Reason.WRONG_TENANT,
        unwrap=unauthorised("AKV10032: Invalid issuer."),
    ),
    Row(
        "the vault asks for another tenant",
        D,
        Reason.WRONG_TENANT,
        first=unauthorised("AKV10000: missing", tenant=OTHER_TENANT),
    ),
    Row(
        "the vault moved while a token was at hand",
        D,
        Reason.WRONG_TENANT,
        unwrap=unauthorised("AKV10032: Invalid issuer.", tenant=OTHER_TENANT),
    ),
    Row(
        "Entra lets us in no more",
        D,
        Reason.CONSENT_WITHDRAWN,
        tokens=NoTokens(ConsentWithdrawnError("platform", code="AADSTS7000229")),
    ),
    # what helps itself
    Row("the token's tenant is wrong once", U, unwrap=only(2, OPENED, unauthorised("AKV10032: Invalid issuer."))),
    Row(
        "a token refused once, and accepted when fresh",
        U,
        unwrap=only(2, OPENED, unauthorised("AKV10046: Unable to resolve the key")),
    ),
    Row(
        "claims are asked for",
        U,
        unwrap=only(2, OPENED, unauthorised("TokenIssuedBeforeRevocationTimestamp", more=CLAIMS)),
    ),
    # what says nothing of the key
    Row("no answer to GET after not found", X, Reason.THROTTLED, unwrap=GONE, get=error(429, "Throttled")),
    Row(
        "called invalid, and GET says so too",
        X,
        Reason.UNREADABLE_ANSWER,
        unwrap=error(400, "BadParameter"),
        get=error(400, "BadParameter"),
    ),
    Row("throttled", X, Reason.THROTTLED, unwrap=error(429, "Throttled")),
    Row("throttled, with HTML", X, Reason.THROTTLED, unwrap=answer(429, HTML)),
    Row("500", X, Reason.VAULT_ERROR, unwrap=error(500, "InternalServerError")),
    Row("503", X, Reason.VAULT_ERROR, unwrap=error(503, "ServiceUnavailable")),
    Row("503 to the first request", X, Reason.VAULT_ERROR, first=error(503, "ServiceUnavailable")),
    Row("a gateway's 502", X, Reason.VAULT_ERROR, unwrap=answer(502, HTML, x_ms_request_id="")),
    Row(
        "a signature that cannot be resolved",
        X,
        Reason.UNAUTHORIZED,
        unwrap=unauthorised("AKV10046: Unable to resolve the key"),
    ),
    Row(
        "a token that is too old: a clock",
        X,
        Reason.UNAUTHORIZED,
        unwrap=unauthorised("[TokenExpired] Error validating token"),
    ),
    Row("another audience", X, Reason.UNAUTHORIZED, unwrap=unauthorised("AKV10022: Invalid audience.")),
    Row(
        "claims, again and again",
        X,
        Reason.UNAUTHORIZED,
        unwrap=unauthorised("TokenIssuedBeforeRevocationTimestamp", more=CLAIMS),
    ),
    Row("a 401 with no challenge", X, Reason.UNAUTHORIZED, first=error(401, "Unauthorized")),
    Row(
        "a challenge for another resource",
        X,
        Reason.FOREIGN_ANSWER,
        first=challenge(PROBED.tenant, "https://management.azure.com"),
    ),
    Row(
        "a challenge for a look-alike",
        X,
        Reason.FOREIGN_ANSWER,
        first=challenge(PROBED.tenant, "https://vault.azure.net.evil.example"),
    ),
    Row("a challenge for any tenant", X, Reason.FOREIGN_ANSWER, first=challenge("common")),
    Row(
        "another tenant's challenge, not the vault's own",
        X,
        Reason.FOREIGN_ANSWER,
        first=challenge(OTHER_TENANT, x_ms_request_id=""),
    ),
    Row("a proxy wants a password", X, Reason.FOREIGN_ANSWER, unwrap=answer(407, HTML, x_ms_request_id="")),
    Row(
        "a proxy's 403",
        X,
        Reason.FOREIGN_ANSWER,
        unwrap=answer(403, HTML, x_ms_request_id="", content_type="text/html"),
    ),
    Row("a proxy's 403 with borrowed headers", X, Reason.FOREIGN_ANSWER, unwrap=answer(403, HTML)),
    Row("a proxy's 404", X, Reason.FOREIGN_ANSWER, unwrap=answer(404, HTML, x_ms_request_id="")),
    Row("a proxy's 200", X, Reason.FOREIGN_ANSWER, unwrap=answer(200, HTML, x_ms_request_id="")),
    Row("somebody else's JSON 403", X, Reason.FOREIGN_ANSWER, unwrap=forbidden("KeyDisabled", x_ms_request_id="")),
    Row("a 403 without a body", X, Reason.FOREIGN_ANSWER, unwrap=answer(403, b"")),
    Row("a 404 without a body", X, Reason.FOREIGN_ANSWER, unwrap=answer(404, b"")),
    Row("a 404 of something else", X, Reason.FOREIGN_ANSWER, unwrap=error(404, "ResourceNotFound")),
    Row("a 409", X, Reason.FOREIGN_ANSWER, unwrap=error(409, "Conflict", "ObjectIsBeingDeleted")),
    Row("a redirect", X, Reason.FOREIGN_ANSWER, unwrap=answer(307, location="https://evil.example/")),
    Row(
        "a redirect of the first request", X, Reason.FOREIGN_ANSWER, first=answer(302, location="https://evil.example/")
    ),
    Row("a 200 to a request without a token", X, Reason.FOREIGN_ANSWER, first=OPENED),
    Row("disabled, to a request without a token", X, Reason.FOREIGN_ANSWER, first=forbidden("KeyDisabled")),
    Row("a 403 cut short", X, Reason.UNREADABLE_ANSWER, unwrap=cut(forbidden("KeyDisabled"))),
    Row("a 200 cut short", X, Reason.UNREADABLE_ANSWER, unwrap=cut(OPENED)),
    Row(
        "half of its JSON, and no more promised",
        X,
        Reason.UNREADABLE_ANSWER,
        unwrap=answer(200, b'{"kid": "https://con'),
    ),
    Row("a 200 with HTML and borrowed headers", X, Reason.UNREADABLE_ANSWER, unwrap=answer(200, HTML)),
    Row("a 200 without a value", X, Reason.UNREADABLE_ANSWER, unwrap=answer(200, {"kid": kid()})),
    Row("a 200 by another version", X, Reason.UNREADABLE_ANSWER, unwrap=value(SECRET, N)),
    Row(
        "a 200 by another vault",
        X,
        Reason.UNREADABLE_ANSWER,
        unwrap=value(SECRET, kid=kid(host="fabrikam.vault.azure.net")),
    ),
    Row("a 200 of another type", X, Reason.UNREADABLE_ANSWER, unwrap=key()),
    Row(
        "unwrap works, GET gives another key",
        U,
        get=answer(200, {"key": {"kid": kid(name="other"), "kty": "RSA"}, "attributes": {"enabled": True}}),
    ),
    Row(
        "something that is not HTTP",
        X,
        Reason.UNREADABLE_ANSWER,
        unwrap=b"SSH-2.0-OpenSSH_9.2\r\n\r\n" + Double.HANG_UP,
    ),
    Row("hung up without a word", X, Reason.CONNECTION_FAILED, unwrap=Double.HANG_UP),
    Row("hung up on before the challenge", X, Reason.CONNECTION_FAILED, first=Double.HANG_UP),
    Row("half open: taken, and never answered", X, Reason.TIMED_OUT, unwrap=Double.SILENCE),
    Row("half open from the first request on", X, Reason.TIMED_OUT, first=Double.SILENCE),
    Row("a slow drip until the deadline", X, Reason.TIMED_OUT, unwrap=Double.DRIP + forbidden("KeyDisabled")),
    Row(
        "the token source is down",
        X,
        Reason.TOKEN_UNAVAILABLE,
        tokens=NoTokens(TokenUnavailableError("platform", code="TimeoutError")),
    ),
    Row(
        "Entra says that our secret is wrong",
        X,
        Reason.TOKEN_UNAVAILABLE,
        tokens=NoTokens(TokenUnavailableError("platform", code="AADSTS7000215")),
    ),
    Row(
        "the token source raises what nobody knows",
        X,
        Reason.TOKEN_UNAVAILABLE,
        tokens=NoTokens(RuntimeError("AADSTS700016")),
    ),
]


def server(row: Row) -> Callable[[str], bytes]:
    """Answer each request by what it asks for and whether it bears a token."""
    wrapped: list[str] = []

    def serve(request: str) -> bytes:
        if "authorization:" not in request.lower():
            told = challenge(PROBED.tenant) if row.first is None else row.first
        elif "/wrapkey?" in request:
            wrapped.append(json.loads(request.partition("\r\n\r\n")[2])["value"])
            told = row.wrap
        elif f"/{N}/unwrapkey?" in request:
            told = answer(200, {"kid": kid(N), "value": wrapped[-1]})
        elif "/unwrapkey?" in request:
            told = row.unwrap
        else:
            told = row.own if re.match(rf"GET /keys/[^/]+/{W}\?", request) else row.get
        return told(request) if callable(told) else told

    return serve


async def seen(row: Row, keys: KeyService) -> tuple[Outcome, Reason | None, WarningKind | None, bool]:
    """Look once, as the checker does, and decide."""
    clock = SystemClock()
    checker = Checker(
        None,
        keys,
        fresh_keys=keys,
        clock=clock,
        randomness=SystemRandomness(),
        policy=POLICY,
        deadline=DEADLINE,
        metrics=Metrics(),
        doubts=Doubts(clock, memory=DEADLINE),
    )
    # Only what never ends has to run into its deadline; a slow machine must not change the rest.
    silent = row.reason is Reason.TIMED_OUT
    calls = Round(keys, clock, deadline=DEADLINE if silent else timedelta(seconds=30))
    look = await checker._look(calls, PROBED, DetectedBy.POLL)
    decision = decide(PROBED, look, now=clock.now(), policy=POLICY, jitter=0.0)
    (observation,) = decision.observations.values()
    warnings = [warning.kind for warning in decision.warnings]
    assert len(warnings) < 2, warnings
    return observation.outcome, observation.reason, *(warnings or [None]), decision.adoption is not None


async def test_the_verdict_table(to_double: Outbound, double: Double, service_over: ServiceOver) -> None:
    wrong = {}
    for row in TABLE:
        http_challenge_cache.clear()
        double.answers = [server(row)]
        keys = service_over(to_double.fresh, row.tokens or Tokens(), vaults=VaultSettings())
        got = await seen(row, keys)
        if got != (row.outcome, row.reason, row.warning, row.adopts):
            wrong[row.situation] = got
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())


def test_the_table_reaches_every_reason_that_an_answer_can_have_and_no_situation_is_there_twice() -> None:
    of_the_way = {
        Reason.TLS_FAILED,
        Reason.NAME_NOT_RESOLVED,
        Reason.VAULT_NOT_FOUND,
    }  # test_hostile_vaults, test_names
    assert {row.reason for row in TABLE} == {None, *Reason} - of_the_way
    assert len({row.situation for row in TABLE}) == len(TABLE)
