"""One look at one wrapping version: from what the vault answered to an observation.

The rules are read from the top; the first that has something to say decides. Unwrap alone decides whether the version
is usable; GET only explains. Behaviour of the vault: recordings, documentation and field reports of Azure Key Vault.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from byokd.domain.answers import (
    Evidence,
    FactsAnswer,
    KeyFacts,
    NoAnswer,
    ProbeAnswer,
    ProbeMismatched,
    ProbeOpened,
    Refused,
)
from byokd.domain.identifiers import KeyVersion
from byokd.domain.vocabulary import Outcome, Reason, RefusalKind

GET_NEWEST = "get newest"
"""The operation in the evidence of GET of the watch's key identifier, where that is not of the version itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one check saw of one wrapping version.

    Attributes:
        version: the wrapping version.
        probe: what unwrapping its probe gave.
        facts: what GET told of this very version; None when it was not asked.
        key: what GET told of the watch's key identifier; None when it was not asked.
        now: when (UTC).
    """

    version: KeyVersion
    probe: ProbeAnswer
    facts: FactsAnswer | None
    key: FactsAnswer | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """Usable, Denied(reason) or Unverified(reason). `reason` is None only for Usable."""

    outcome: Outcome
    reason: Reason | None
    message: str
    evidence: tuple[Evidence, ...] = ()


Rule = Callable[[Seen], Observation | None]


def _denied(seen: Seen, reason: Reason, message: str) -> Observation:
    return Observation(Outcome.DENIED, reason, message, _evidence(seen))


def _evidence(seen: Seen) -> tuple[Evidence, ...]:
    answers = (seen.probe, seen.facts)
    told = [answer.evidence for answer in answers if answer is not None and not isinstance(answer, ProbeOpened)]
    if seen.key is not None and seen.key is not seen.facts:
        told.append(replace(seen.key.evidence, operation=GET_NEWEST))
    return tuple(told)


def _refused_as(seen: Seen, kind: RefusalKind) -> bool:
    return isinstance(seen.probe, Refused) and seen.probe.kind is kind


def probe_opened(seen: Seen) -> Observation | None:
    """Unwrap gave our probe: usable, whatever GET says."""
    if isinstance(seen.probe, ProbeOpened):
        return Observation(Outcome.USABLE, None, "the version unwraps")
    return None


def no_answer(seen: Seen) -> Observation | None:
    """The vault said nothing of the key: never a denial."""
    if isinstance(seen.probe, NoAnswer):
        message = f"the key could not be checked: {seen.probe.reason}"
        return Observation(Outcome.UNVERIFIED, seen.probe.reason, message, _evidence(seen))
    return None


def probe_mismatched(seen: Seen) -> Observation | None:
    """The vault answered with another value, or calls the wrapped probe invalid while GET still finds the key.

    A 400 alone may be about the request: a vault that no longer speaks our version of the interface says it to all.
    """
    if isinstance(seen.probe, ProbeMismatched):
        return _denied(seen, Reason.PROBE_MISMATCH, "the version no longer unwraps what it wrapped")
    if not _refused_as(seen, RefusalKind.BAD_REQUEST):
        return None
    if isinstance(seen.key, KeyFacts):
        return _denied(seen, Reason.PROBE_MISMATCH, "the version calls what it wrapped invalid")
    message = "the vault calls the request invalid, and GET could not tell whether it is the key"
    return Observation(Outcome.UNVERIFIED, Reason.UNREADABLE_ANSWER, message, _evidence(seen))


def wrong_tenant(seen: Seen) -> Observation | None:
    """The vault belongs to another tenant than the one pinned at registration."""
    if _refused_as(seen, RefusalKind.WRONG_TENANT):
        return _denied(seen, Reason.WRONG_TENANT, "the vault belongs to another tenant than the account's")
    return None


def consent_withdrawn(seen: Seen) -> Observation | None:
    """Entra no longer knows our application in the pinned tenant, or has disabled it, or the tenant is gone."""
    if _refused_as(seen, RefusalKind.CONSENT_WITHDRAWN):
        return _denied(seen, Reason.CONSENT_WITHDRAWN, "the account's tenant no longer lets this service in")
    return None


def vault_not_found(seen: Seen) -> Observation | None:
    """The vault's name is not there, while names of other vaults are."""
    if _refused_as(seen, RefusalKind.VAULT_NOT_FOUND):
        return _denied(seen, Reason.VAULT_NOT_FOUND, "the vault's name does not exist: deleted or purged")
    return None


def network_blocked(seen: Seen) -> Observation | None:
    """Firewall, perimeter or closed public access: decided by the vault before authorization."""
    if _refused_as(seen, RefusalKind.NETWORK_BLOCKED):
        return _denied(seen, Reason.NETWORK_BLOCKED, "the vault's network rules refuse this service")
    return None


def key_disabled(seen: Seen) -> Observation | None:
    """Said by the inner code, or by the attributes when the vault refuses without one."""
    says_disabled = isinstance(seen.facts, KeyFacts) and not seen.facts.enabled
    if _refused_as(seen, RefusalKind.KEY_DISABLED) or (_refused_as(seen, RefusalKind.ACCESS_DENIED) and says_disabled):
        return _denied(seen, Reason.KEY_DISABLED, "the key version is disabled")
    return None


def operation_not_permitted(seen: Seen) -> Observation | None:
    """The key's own list of operations lacks unwrapKey."""
    if _refused_as(seen, RefusalKind.OPERATION_FORBIDDEN):
        return _denied(seen, Reason.KEY_OPERATION_NOT_PERMITTED, "the key's permitted operations lack unwrapKey")
    return None


def outside_validity(seen: Seen) -> Observation | None:
    """Refused, and the attributes say expired or not yet valid; while unwrap works, that is only a warning."""
    if not (_refused_as(seen, RefusalKind.ACCESS_DENIED) and isinstance(seen.facts, KeyFacts)):
        return None
    if seen.facts.expires is not None and seen.facts.expires <= seen.now:
        return _denied(seen, Reason.KEY_EXPIRED, f"the key version expired at {seen.facts.expires:%Y-%m-%dT%H:%M:%SZ}")
    if seen.facts.not_before is not None and seen.now < seen.facts.not_before:
        since = f"{seen.facts.not_before:%Y-%m-%dT%H:%M:%SZ}"
        return _denied(seen, Reason.KEY_NOT_YET_VALID, f"the key version is not valid before {since}")
    return None


def access_denied(seen: Seen) -> Observation | None:
    """Role or access policy missing, or a 403 that does not say why."""
    if _refused_as(seen, RefusalKind.ACCESS_DENIED):
        return _denied(seen, Reason.ACCESS_DENIED, "the vault refuses the identity: role or access policy missing")
    return None


def not_found(seen: Seen) -> Observation | None:
    """Version or key gone: GET tells which of them. Without its answer the denial is the same, as unwrap decides."""
    if not _refused_as(seen, RefusalKind.NOT_FOUND):
        return None
    if isinstance(seen.key, KeyFacts):
        message = "the key exists, but not the version that wraps the account key"
        return _denied(seen, Reason.KEY_VERSION_NOT_FOUND, message)
    if isinstance(seen.key, Refused) and seen.key.kind is RefusalKind.NOT_FOUND:
        return _denied(seen, Reason.KEY_NOT_FOUND, "the key is deleted or purged")
    why = "is refused" if isinstance(seen.key, Refused) else "did not answer"
    message = f"the key or its wrapping version is deleted or purged; GET {why}, so which of them cannot be told"
    return _denied(seen, Reason.KEY_NOT_FOUND, message)


RULES: tuple[Rule, ...] = (
    probe_opened,
    no_answer,
    probe_mismatched,
    wrong_tenant,
    consent_withdrawn,
    vault_not_found,
    network_blocked,
    key_disabled,
    operation_not_permitted,
    outside_validity,
    access_denied,
    not_found,
)
"""The verdict table, in the order in which it is read."""


def judge(seen: Seen) -> Observation:
    """Give the observation of the first rule that has something to say; the rules cover every answer."""
    for rule in RULES:
        if (observation := rule(seen)) is not None:
            return observation
    raise AssertionError(f"no rule covers {type(seen.probe).__name__}")  # a refusal kind without a rule is a defect
