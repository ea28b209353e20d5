"""The verdict table: what the wire says of a key, and what byokd sees in it. Every row by both ways to a vault.

`unwrap`, `get` (the newest version), `own` (the wrapping version) and `wrap` are what is answered to a request with a
token, `first` to one without. Where nothing is said of one, it is answered as by a healthy vault with one version. Each
look is the checker's own, over TLS. What befalls names is in `test_names.py`, certificates in `test_hostile_vaults.py`.
"""

from datetime import timedelta

from azure.keyvault.keys._shared import http_challenge_cache

from byokd.adapters.keyvault.channel import TokenSource
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.decide import decide
from byokd.domain.vocabulary import DetectedBy, Reason
from byokd.ports import ConsentWithdrawnError, KeyService, TokenUnavailableError
from byokd.runtime.clock import SystemClock, SystemRandomness
from byokd.runtime.doubts import Doubts
from byokd.runtime.looking import Looker
from byokd.runtime.rounds import Round
from byokd.runtime.standing import Standing
from byokd.settings import VaultSettings
from domain.scenes import DENIALS, POLICY, TROUBLE
from keyvault.double import Double, Tokens, answer, challenge
from keyvault.way import ServiceOver
from keyvault.wire import (
    BAD,
    DISABLED,
    EARLY,
    EXPIRED,
    FUTURE,
    GONE,
    MADE_BEFORE,
    NEWER,
    OPENED,
    OTHER_TENANT,
    PAST,
    PROBE,
    REVOKED,
    TENANT,
    THROTTLED,
    UNKNOWN_SIGNATURE,
    WATCH,
    WRAPPING,
    WRONG_ISSUER,
    Wire,
    cut,
    error,
    forbidden,
    key,
    kid,
    newer,
    once,
    page,
    speaking,
    unauthorised,
    value,
)

Row = tuple[str, str, dict[str, Wire]]


def row(situation: str, seen: str, **wire: Wire) -> Row:
    return situation, seen, wire


TABLE = [
    # it unwraps
    row("healthy", "Usable"),
    row("the name in another case", "Usable", unwrap=value(PROBE, kid=kid(name="CUSTOMER-key"))),
    row("a newer version that is fit", "Usable, adopts", get=newer()),
    row("a newer version: disabled", "Usable, NewestVersionUnusable", get=newer(enabled=False)),
    row("a newer version: expired", "Usable, NewestVersionUnusable", get=newer(exp=PAST)),
    row("a newer version: not yet valid", "Usable, NewestVersionUnusable", get=newer(nbf=FUTURE)),
    row("a newer version: may not wrap", "Usable, NewestVersionUnusable", get=newer(ops="unwrapKey")),
    row("a newer version: a curve", "Usable, NewestVersionUnusable", get=newer(kty="EC")),
    row("a newer version: too short", "Usable, NewestVersionUnusable", get=newer(bits=1024)),
    row("a newer version: wrap refused", "Usable, NewestVersionUnusable", get=newer(), wrap=forbidden()),
    row("a newer version: wrap throttled", "Usable", get=newer(), wrap=THROTTLED),
    row("a stale read shows an older version", "Usable", get=key(NEWER, made=MADE_BEFORE)),
    row("GET refused", "Usable, NewVersionsUnseen", get=forbidden("ForbiddenByRbac")),
    row("GET finds nothing: a stale read", "Usable", get=GONE),
    row("GET throttled", "Usable", get=THROTTLED),
    row("GET gives another key", "Usable", get=key(kid=kid(name="other"))),
    row("GET gives another type", "Usable", get=OPENED),
    row("disabled, and not yet enforced", "Usable", get=DISABLED),
    row("expired, and still unwraps", "Usable, KeyExpired", get=EXPIRED),
    row("not yet valid, and still unwraps", "Usable, KeyNotYetValid", get=EARLY),
    row("a token of the wrong tenant, once", "Usable", unwrap=once(unauthorised(WRONG_ISSUER))),
    row("a token refused once", "Usable", unwrap=once(unauthorised(UNKNOWN_SIGNATURE))),
    row("claims asked for", "Usable", unwrap=once(REVOKED)),
    # the vault says no
    row("disabled", "Denied KeyDisabled", unwrap=forbidden("KeyDisabled"), get=DISABLED),
    row("disabled, GET refused too", "Denied KeyDisabled", unwrap=forbidden("KeyDisabled"), get=forbidden()),
    row("disabled, no inner code", "Denied KeyDisabled", unwrap=forbidden(), get=DISABLED),
    row("disabled, newer there", "Denied KeyDisabled", unwrap=forbidden(), get=newer(), own=DISABLED),
    row("expired, and refused", "Denied KeyExpired", unwrap=forbidden(), get=EXPIRED),
    row("not yet valid, and refused", "Denied KeyNotYetValid", unwrap=forbidden(), get=EARLY),
    row(
        "key_ops", "Denied KeyOperationNotPermitted", unwrap=forbidden("KeyOperationForbidden"), get=key(ops="wrapKey")
    ),
    row("access policy", "Denied AccessDenied", unwrap=forbidden("AccessDenied")),
    row("access policy, the other code", "Denied AccessDenied", unwrap=forbidden("ForbiddenByPolicy")),
    row("role", "Denied AccessDenied", unwrap=forbidden("ForbiddenByRbac")),
    row("both refused", "Denied AccessDenied", unwrap=forbidden("ForbiddenByRbac"), get=forbidden("ForbiddenByRbac")),
    row("an unknown inner code", "Denied AccessDenied", unwrap=forbidden("ForbiddenByMoonPhase")),
    row("no inner code", "Denied AccessDenied", unwrap=forbidden()),
    row("an inner code that is none", "Denied AccessDenied", unwrap=error(403, "Forbidden", inner=7)),
    row("refused, GET throttled", "Denied AccessDenied", unwrap=forbidden(), get=THROTTLED),
    row(
        "only the region's header",
        "Denied AccessDenied",
        unwrap=forbidden(x_ms_request_id="", x_ms_keyvault_region="x"),
    ),
    row("firewall", "Denied NetworkBlocked", unwrap=forbidden("ForbiddenByFirewall")),
    row("firewall, before any token", "Denied NetworkBlocked", first=forbidden("ForbiddenByFirewall")),
    row("public access closed", "Denied NetworkBlocked", unwrap=forbidden("ForbiddenByConnection")),
    row("deleted or purged", "Denied KeyNotFound", unwrap=GONE, get=GONE),
    row("not found, GET refused", "Denied KeyNotFound", unwrap=GONE, get=forbidden()),
    row("deleted and made anew", "Denied KeyVersionNotFound", unwrap=GONE, get=newer(), own=GONE),
    row("another value", "Denied ProbeMismatch", unwrap=value(b"q" * 32)),
    row("400 on the probe alone", "Denied ProbeMismatch", unwrap=BAD),
    row("a fresh token of the wrong tenant", "Denied WrongTenant", unwrap=unauthorised(WRONG_ISSUER)),
    row("another tenant's vault", "Denied WrongTenant", first=unauthorised("AKV10000: no token", tenant=OTHER_TENANT)),
    row("moved to another tenant", "Denied WrongTenant", unwrap=unauthorised(WRONG_ISSUER, tenant=OTHER_TENANT)),
    # nothing is said of the key
    row("not found, GET throttled", "Denied KeyNotFound", unwrap=GONE, get=THROTTLED),
    row("400 on everything", "Unverified UnreadableAnswer", unwrap=BAD, get=BAD),
    row("429", "Unverified Throttled", unwrap=THROTTLED),
    row("429 with a page", "Unverified Throttled", unwrap=page(429)),
    row("429 with a page called JSON", "Unverified Throttled", unwrap=page(429, content_type="application/json")),
    row("500", "Unverified VaultError", unwrap=error(500, "InternalServerError")),
    row("503", "Unverified VaultError", unwrap=error(503, "ServiceUnavailable")),
    row("503 before any token", "Unverified VaultError", first=error(503, "ServiceUnavailable")),
    row("a gateway's 502", "Unverified VaultError", unwrap=page(502)),
    row("unknown signature", "Unverified Unauthorized", unwrap=unauthorised(UNKNOWN_SIGNATURE)),
    row(
        "token expired: a clock",
        "Unverified Unauthorized",
        unwrap=unauthorised("[TokenExpired] Error validating token"),
    ),
    row("another audience", "Unverified Unauthorized", unwrap=unauthorised("AKV10022: Invalid audience.")),
    row("claims, again and again", "Unverified Unauthorized", unwrap=REVOKED),
    row("401 without a challenge", "Unverified Unauthorized", first=error(401, "Unauthorized")),
    row(
        "a challenge: another resource",
        "Unverified ForeignAnswer",
        first=challenge(TENANT, "https://graph.microsoft.com"),
    ),
    row(
        "a challenge: a look-alike",
        "Unverified ForeignAnswer",
        first=challenge(TENANT, "https://vault.azure.net.x.org"),
    ),
    row("a challenge: any tenant", "Unverified ForeignAnswer", first=challenge("common")),
    row("a challenge: not the vault's", "Unverified ForeignAnswer", first=challenge(OTHER_TENANT, x_ms_request_id="")),
    row("a proxy's 200", "Unverified ForeignAnswer", unwrap=page(200)),
    row("a proxy's 403", "Unverified ForeignAnswer", unwrap=page(403)),
    row("a proxy's 403 called JSON", "Unverified ForeignAnswer", unwrap=page(403, content_type="application/json")),
    row("a proxy's 403, headers borrowed", "Unverified ForeignAnswer", unwrap=page(403, x_ms_request_id="8d2f")),
    row("a proxy's 404", "Unverified ForeignAnswer", unwrap=page(404)),
    row("a proxy's 407", "Unverified ForeignAnswer", unwrap=page(407)),
    row("a proxy's 403 before any token", "Unverified ForeignAnswer", first=page(403)),
    row("somebody's JSON 403", "Unverified ForeignAnswer", unwrap=forbidden("KeyDisabled", x_ms_request_id="")),
    row("somebody's JSON 200", "Unverified ForeignAnswer", unwrap=answer(200, {"value": "cA"}, x_ms_request_id="")),
    row("403 without a body", "Unverified ForeignAnswer", unwrap=answer(403, b"")),
    row("404 without a body", "Unverified ForeignAnswer", unwrap=answer(404, b"")),
    row("404 of something else", "Unverified ForeignAnswer", unwrap=error(404, "ResourceNotFound")),
    row("409", "Unverified ForeignAnswer", unwrap=error(409, "Conflict", {"code": "ObjectIsBeingDeleted"})),
    row("a redirect", "Unverified ForeignAnswer", unwrap=answer(307, location="https://evil.example/")),
    row("a redirect before any token", "Unverified ForeignAnswer", first=answer(302, location="https://evil.example/")),
    row("200 before any token", "Unverified ForeignAnswer", first=OPENED),
    row("disabled, before any token", "Unverified ForeignAnswer", first=forbidden("KeyDisabled")),
    row("403 cut short", "Unverified UnreadableAnswer", unwrap=cut(forbidden("KeyDisabled"))),
    row("200 cut short", "Unverified UnreadableAnswer", unwrap=cut(OPENED)),
    row("half of its JSON", "Unverified UnreadableAnswer", unwrap=answer(200, b'{"kid": "https://con')),
    row("200 with a page", "Unverified UnreadableAnswer", unwrap=page(200, x_ms_request_id="8d2f")),
    row("200 without a value", "Unverified UnreadableAnswer", unwrap=answer(200, {"kid": kid()})),
    row("200 by another version", "Unverified UnreadableAnswer", unwrap=value(PROBE, kid=kid(NEWER))),
    row("200 by another key", "Unverified UnreadableAnswer", unwrap=value(PROBE, kid=kid(name="other"))),
    row(
        "200 by another vault",
        "Unverified UnreadableAnswer",
        unwrap=value(PROBE, kid=kid(host="fabrikam.vault.azure.net")),
    ),
    row(
        "200 with a kid of no version",
        "Unverified UnreadableAnswer",
        unwrap=value(PROBE, kid=kid().removesuffix(WRAPPING)),
    ),
    row("200 of another type", "Unverified UnreadableAnswer", unwrap=key()),
    row("not HTTP", "Unverified UnreadableAnswer", unwrap=b"SSH-2.0-OpenSSH_9.2\r\n\r\n" + Double.HANG_UP),
    row("hung up", "Unverified ConnectionFailed", unwrap=Double.HANG_UP),
    row("hung up before any token", "Unverified ConnectionFailed", first=Double.HANG_UP),
    row("half open", "Unverified TimedOut", unwrap=Double.SILENCE),
    row("half open before any token", "Unverified TimedOut", first=Double.SILENCE),
    row("a slow drip", "Unverified TimedOut", unwrap=Double.DRIP + forbidden("KeyDisabled")),
]


class NoTokens:
    """A source that has none."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def token(self, *_: object, **__: object) -> str:
        raise self.error


TOKENS = [
    ("Entra lets us in no more", "Denied ConsentWithdrawn", ConsentWithdrawnError("platform", code="AADSTS7000229")),
    ("the source is down", "Unverified TokenUnavailable", TokenUnavailableError("platform", code="TimeoutError")),
    ("our secret is wrong", "Unverified TokenUnavailable", TokenUnavailableError("platform", code="AADSTS7000215")),
    ("what nobody knows", "Unverified TokenUnavailable", RuntimeError("AADSTS700016: application not found")),
]


async def look(keys: KeyService, *, deadline: timedelta) -> str:
    """Look once, as the checker does, decide, and say it in the table's words."""
    clock = SystemClock()
    doubts = Doubts(clock, memory=deadline)
    looker = Looker(clock, SystemRandomness(), doubts=doubts, standing=Standing(clock))
    found = (await looker.look(Round(keys, clock, deadline=deadline), WATCH, DetectedBy.POLL)).look
    decision = decide(WATCH, found, now=clock.now(), policy=POLICY, jitter=0.0)
    (observation,) = decision.observations.values()
    seen = " ".join(str(word) for word in (observation.outcome, observation.reason) if word is not None)
    warnings = [str(warning.kind) for warning in decision.warnings]
    return ", ".join([seen, *warnings, *(["adopts"] if decision.adoption is not None else [])])


def deadline_of(seen: str) -> timedelta:
    """Only what never ends has to run into its deadline; a slow machine must not change the rest."""
    return timedelta(milliseconds=150) if seen.endswith(Reason.TIMED_OUT) else timedelta(seconds=30)


async def wrong(
    rows: list[Row], double: Double, outbound: Outbound, service_over: ServiceOver, tokens: TokenSource | None = None
) -> dict[str, str]:
    """Play rows, each with a client that knows nothing yet; give what was seen otherwise than the rows say."""
    found = {}
    for situation, expected, wire in rows:
        http_challenge_cache.clear()
        double.answers = [speaking(**wire)]
        keys = service_over(outbound.fresh, tokens or Tokens(), vaults=VaultSettings())
        seen = await look(keys, deadline=deadline_of(expected))
        if seen != expected:
            found[situation] = seen
    return found


async def test_the_verdict_table(to_double: Outbound, double: Double, service_over: ServiceOver) -> None:
    assert await wrong(TABLE, double, to_double, service_over) == {}


async def test_what_happens_to_tokens(to_double: Outbound, double: Double, service_over: ServiceOver) -> None:
    for situation, expected, error_ in TOKENS:
        rows = [row(situation, expected)]
        assert await wrong(rows, double, to_double, service_over, NoTokens(error_)) == {}


def test_the_table_reaches_every_reason_and_says_nothing_twice() -> None:
    reached = {entry[1].split(",")[0].partition(" ")[2] for entry in (*TABLE, *TOKENS)}
    of_the_way = {Reason.TLS_FAILED, Reason.NAME_NOT_RESOLVED, Reason.VAULT_NOT_FOUND}
    assert reached == {"", *map(str, {*DENIALS, *TROUBLE} - of_the_way)}
    assert len({situation for situation, _, _ in TABLE}) == len(TABLE)
