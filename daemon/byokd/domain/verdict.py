"""What byokd made of its observations: the stored facts that a check starts from and ends with."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from byokd.domain.answers import Evidence, KeyFacts
from byokd.domain.identifiers import (
    IdentityName,
    KeyIdentifier,
    KeyVersion,
    TenantId,
    WatchId,
    WrappingVersionId,
)
from byokd.domain.vocabulary import SILENCES, DetectedBy, Outcome, Reason, WarningKind


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A denial that does not count yet.

    Attributes:
        since: when it was first seen.
        held_since: when it was confirmed and the brake held it; None while it awaits its confirmation.
        evidence: what it rests on: what was seen first, and what made it what it is since.
    """

    reason: Reason
    message: str
    since: datetime
    held_since: datetime | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Unverified:
    """No look has agreed with the outcome since; `told` once that was published.

    A denial that does not count yet does not end it: what is told of the version is still not what was seen. `reason`
    is that of the last look: why there was no answer, or that denial's.
    """

    reason: Reason
    since: datetime
    told: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether the last look got no answer."""
        return self.reason in SILENCES


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row per wrapping version. The gate reads `outcome` (Usable or Denied, never Unverified).

    Attributes:
        number: grows with every change that accounts must hear of; the follower resumes by it.
        since: when `outcome` or `reason` last changed.
        recheck_from: what the backoff of a denied version counts from: `since`, or a later hint.
        observed_at: when what `outcome` rests on was seen; after having been unverified, when it was seen again.
        flips: how often the version recovered, or was denied for another reason, each within `Policy.flap_window` of
            the time before; a denial of a usable version does not count, because it is never delayed.
        flipped_at: when it did so last.
        proving_since: when a denied version that flips too often was first seen usable again.
    """

    outcome: Outcome
    reason: Reason | None
    message: str
    since: datetime
    number: int
    detected_by: DetectedBy
    observed_at: datetime
    recheck_from: datetime
    suspicion: Suspicion | None = None
    unverified: Unverified | None = None
    evidence: tuple[Evidence, ...] = ()
    flips: int = 0
    flipped_at: datetime | None = None
    proving_since: datetime | None = None

    @classmethod
    def adopted(cls, now: datetime, *, detected_by: DetectedBy) -> "Verdict":
        """Give the verdict of a version that has just proved itself."""
        return cls(
            outcome=Outcome.USABLE,
            reason=None,
            message="the version unwraps",
            since=now,
            number=1,
            detected_by=detected_by,
            observed_at=now,
            recheck_from=now,
        )

    def is_held(self) -> bool:
        """Tell whether a denial of the version was confirmed and is held by the brake."""
        return self.suspicion is not None and self.suspicion.held_since is not None


@dataclass(frozen=True, slots=True, repr=False)
class Probe:
    """32 random bytes wrapped by a version when it was adopted; only the digest of the bytes is kept."""

    wrapped: bytes
    digest: bytes

    def __repr__(self) -> str:
        return "Probe(...)"


@dataclass(frozen=True, slots=True)
class WrappingVersion:
    """A key version that wraps account keys of a watch, with its probe and its verdict."""

    id: WrappingVersionId
    version: KeyVersion
    created: datetime | None
    probe: Probe
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class WatchWarning:
    """Something amiss that costs no account its life. `version` is None when it concerns the key as a whole.

    `date` is the one that the warning is about, where it is about one: another date makes it another warning.
    """

    kind: WarningKind
    version: KeyVersion | None
    message: str
    date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """A pair (identity, key identifier) to be monitored, as the store has it.

    Attributes:
        tenant: the customer's tenant that the vault must belong to.
        revision: grows with every write; a commit that saw another revision is refused.
        epoch: the vault's; a commit by a replica that lost the vault is refused.
        current: the version that new account keys are wrapped with.
        versions: the wrapping versions in use, oldest first.
        adopted: every version ever adopted, in use or retired.
    """

    id: WatchId
    identity: IdentityName
    tenant: TenantId
    key: KeyIdentifier
    revision: int
    epoch: int
    current: WrappingVersionId
    versions: tuple[WrappingVersion, ...]
    adopted: frozenset[KeyVersion]
    warnings: tuple[WatchWarning, ...]
    due_at: datetime

    @property
    def current_version(self) -> WrappingVersion:
        """The wrapping version that `current` names."""
        return next(version for version in self.versions if version.id == self.current)

    def concerned(self, warning: WatchWarning) -> KeyIdentifier:
        """Give what a warning is about: a version of the key, or the key as it is watched."""
        return self.key if warning.version is None else self.key.at(warning.version)

    def is_newer(self, facts: KeyFacts) -> bool:
        """Tell whether a version was never adopted and is not older than the current one.

        A stale vault may show the others. Key Vault counts creation in whole seconds, so one of the same second counts.
        """
        created = self.current_version.created
        older = created is not None and facts.created is not None and facts.created < created
        return not older and facts.version not in self.adopted


@dataclass(frozen=True, slots=True)
class Policy:
    """The times of section 5 of the design, from the settings."""

    check_interval: timedelta
    check_jitter: float
    confirm_after: timedelta
    confirm_network_after: timedelta
    recheck_first: timedelta
    recheck_most: timedelta
    unverified_after: timedelta
    fail_closed_after: timedelta | None
    flap_window: timedelta
    flaps_free: int
    brake_max_hold: timedelta
    near_expiry: timedelta
