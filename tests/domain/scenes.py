"""Watches, answers and times for tests of the domain, and Hypothesis strategies for them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from byokd.domain.answers import Evidence, FactsAnswer, KeyFacts, NoAnswer, ProbeMismatched, ProbeOpened, Refused
from byokd.domain.decide import Look, weigh
from byokd.domain.identifiers import (
    IdentityName,
    KeyIdentifier,
    KeyVersion,
    TenantId,
    VaultHost,
    WatchId,
    WrappingVersionId,
)
from byokd.domain.judge import Observation, Seen, judge
from byokd.domain.verdict import Policy, Probe, Verdict, Watch, WrappingVersion
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, RefusalKind
from byokd.domain.weigh import SLOW

NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
POLICY = Policy(
    check_interval=timedelta(seconds=60),
    check_jitter=0.1,
    confirm_after=timedelta(seconds=5),
    confirm_network_after=timedelta(minutes=5),
    recheck_first=timedelta(seconds=10),
    recheck_most=timedelta(minutes=5),
    unverified_after=timedelta(minutes=15),
    fail_closed_after=None,
    flap_window=timedelta(hours=1),
    flaps_free=3,
    brake_max_hold=timedelta(hours=1),
    near_expiry=timedelta(days=30),
)
V1, V2, V3 = (KeyVersion(digit * 32) for digit in "123")
KEY = KeyIdentifier(VaultHost("contoso.vault.azure.net"), "customer-key")
PROBE = Probe(b"wrapped", b"digest")
OPENED = ProbeOpened()
GENUINE_NO = tuple(RefusalKind)
TROUBLE = (
    Reason.THROTTLED,
    Reason.VAULT_ERROR,
    Reason.TIMED_OUT,
    Reason.CONNECTION_FAILED,
    Reason.TLS_FAILED,
    Reason.NAME_NOT_RESOLVED,
    Reason.UNAUTHORIZED,
    Reason.FOREIGN_ANSWER,
    Reason.UNREADABLE_ANSWER,
    Reason.TOKEN_UNAVAILABLE,
)
DENIALS = tuple(reason for reason in Reason if reason not in {*TROUBLE, Reason.UNVERIFIED})
SOON = tuple(reason for reason in DENIALS if reason not in SLOW)


def refused(kind: RefusalKind) -> Refused:
    return Refused(kind, Evidence("unwrapKey", status=403, code="Forbidden"))


def silent(reason: Reason = Reason.TIMED_OUT) -> NoAnswer:
    return NoAnswer(reason, Evidence("unwrapKey"))


def facts(version: KeyVersion = V1, **changes: object) -> KeyFacts:
    key = KeyFacts(version, "RSA", 2048, enabled=True, operations=frozenset({"wrapKey", "unwrapKey"}), created=NOW)
    key = replace(key, recovery_level="Recoverable")
    return replace(key, **changes)


def seen(probe: object, *, key: FactsAnswer | None = None, of: FactsAnswer | None = None, at: datetime = NOW) -> Seen:
    return Seen(V1, probe, of, key, at)


def usable() -> Observation:
    return judge(seen(OPENED))


def denied(reason: Reason = Reason.ACCESS_DENIED) -> Observation:
    return Observation(Outcome.DENIED, reason, f"denied: {reason}")


def unverified(reason: Reason = Reason.TIMED_OUT) -> Observation:
    return Observation(Outcome.UNVERIFIED, reason, "could not be checked")


def after(verdict: Verdict, *steps: tuple[Observation, datetime], by: DetectedBy = DetectedBy.POLL) -> Verdict:
    for observation, now in steps:
        verdict = weigh(verdict, observation, now=now, policy=POLICY, detected_by=by)
    return verdict


FRESH = Verdict.adopted(NOW, detected_by=DetectedBy.OPERATOR)


def inaccessible(reason: Reason = Reason.ACCESS_DENIED) -> Verdict:
    wait = POLICY.confirm_network_after if reason in SLOW else POLICY.confirm_after
    return after(FRESH, (denied(reason), NOW - wait), (denied(reason), NOW))


def watch(*verdicts: Verdict, pinned: bool = False) -> Watch:
    """A watch with one wrapping version per verdict; the last one is current."""
    versions = tuple(
        WrappingVersion(WrappingVersionId(number), version, NOW - HOUR, PROBE, verdict)
        for number, (version, verdict) in enumerate(zip((V1, V2), verdicts or (FRESH,), strict=False), start=1)
    )
    current = versions[-1]
    return Watch(
        id=WatchId(1),
        identity=IdentityName("platform"),
        tenant=TenantId("00000000-0000-0000-0000-000000000001"),
        key=KEY.at(current.version) if pinned else KEY,
        revision=1,
        epoch=1,
        current=current.id,
        versions=versions,
        adopted=frozenset(version.version for version in versions),
        warnings=(),
        due_at=NOW,
    )


def look(
    on: Watch,
    *probes: object,
    newest: FactsAnswer | None = None,
    candidate: object = None,
    by: DetectedBy = DetectedBy.POLL,
    own: FactsAnswer | None = None,
) -> Look:
    """What was seen of the watch's versions, one probe answer each; `own` is what GET said of each very version."""
    entries = tuple(
        Seen(version.version, probe, own, newest, NOW) for version, probe in zip(on.versions, probes, strict=True)
    )
    return Look(entries, newest, candidate, by)


instants = st.integers(-3 * 86_400, 3 * 86_400).map(lambda seconds: NOW + timedelta(seconds=seconds))
evidences = st.builds(Evidence, operation=st.sampled_from(("get", "unwrapKey")), status=st.sampled_from((None, 403)))
silences = st.builds(NoAnswer, reason=st.sampled_from(TROUBLE), evidence=evidences)
refusals = st.builds(Refused, kind=st.sampled_from(GENUINE_NO), evidence=evidences)
key_facts = st.builds(
    KeyFacts,
    version=st.sampled_from((V1, V2, V3)),
    key_type=st.sampled_from(("RSA", "RSA-HSM", "EC", "oct")),
    bits=st.sampled_from((0, 1024, 2048, 3072, 4096)),
    enabled=st.booleans(),
    operations=st.frozensets(st.sampled_from(("wrapKey", "unwrapKey", "sign"))),
    created=st.none() | instants,
    not_before=st.none() | instants,
    expires=st.none() | instants,
    recovery_level=st.sampled_from((None, "Recoverable", "Recoverable+Purgeable")),
)
facts_answers = st.none() | key_facts | refusals | silences
probe_answers = st.just(OPENED) | st.builds(ProbeMismatched, evidence=evidences) | refusals | silences
sights = st.builds(Seen, version=st.just(V1), probe=probe_answers, facts=facts_answers, key=facts_answers, now=instants)


def facts_of(version: KeyVersion) -> st.SearchStrategy[FactsAnswer | None]:
    """What GET can tell of one very version."""
    return facts_answers.map(
        lambda answer: replace(answer, version=version) if isinstance(answer, KeyFacts) else answer
    )


candidates = st.none() | st.just(PROBE) | refusals | silences
ways = st.sampled_from(DetectedBy)
observations = st.just(usable()) | st.sampled_from(DENIALS).map(denied) | st.sampled_from(TROUBLE).map(unverified)
gaps = st.sampled_from((1, 4, 5, 6, 10, 60, 299, 300, 301, 899, 900, 3600)).map(
    lambda seconds: timedelta(seconds=seconds)
)
histories = st.lists(st.tuples(observations, gaps, ways), max_size=12)


def played(history: list[tuple[Observation, timedelta, DetectedBy]]) -> tuple[Verdict, datetime]:
    """The verdict after a history of observations, and when it ended."""
    verdict, now = FRESH, NOW
    for observation, gap, by in history:
        now += gap
        verdict = weigh(verdict, observation, now=now, policy=POLICY, detected_by=by)
    return verdict, now


verdicts = histories.map(played)
"""Every verdict that observations can lead to, with its time."""
