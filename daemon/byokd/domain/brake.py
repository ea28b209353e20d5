"""The brake: what looks like our own fault is not taken for the customers' doing.

Pure. Holding is safe: from the first denial on, nothing is used without a live unwrap by the vault.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import ceil

from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.domain.vocabulary import Reason

OUR_FAULT_CAN_CAUSE = frozenset(
    {
        Reason.ACCESS_DENIED,
        Reason.CONSENT_WITHDRAWN,
        Reason.NETWORK_BLOCKED,
        Reason.VAULT_NOT_FOUND,
        Reason.WRONG_TENANT,
    }
)
"""Denials that a defect of our own credential, network or name resolution can cause.

What an authenticated vault says of its key (disabled, deleted, not permitted) is never held.
"""

FEW_TENANTS = 10
"""With fewer tenants than this, vaults are counted: a share of so few people says little."""


class BrakeMode(StrEnum):
    """What an engaged brake does: hold denials, or only tell that it would."""

    HOLD = "hold"
    OBSERVE = "observe"


class EngagedBy(StrEnum):
    """Who engaged the brake."""

    TALLY = "tally"
    OPERATOR = "operator"


class Counted(StrEnum):
    """What stands for a customer in the tally."""

    TENANTS = "tenants"
    VAULTS = "vaults"


class Among(StrEnum):
    """Of which customers the share is taken."""

    ALL = "all"
    LATELY_LOOKED_AT = "lately-looked-at"


class ReleaseCause(StrEnum):
    """Why the brake let go."""

    PROOF = "proof"
    DISCARDED = "discarded"
    CONFIRMED = "confirmed"


class Ruling(StrEnum):
    """What becomes of a confirmed denial that our own fault can cause."""

    HOLD = "hold"
    APPLY = "apply"
    WAIT = "wait"
    """Too early to tell: it stays a suspicion until the next look."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """From when on it looks like our own fault: so many customers, and this share of them."""

    customers: int
    share: float

    @property
    def least(self) -> int:
        """How many customers a sample must have before its share says anything."""
        return ceil(self.customers / self.share)


@dataclass(frozen=True, slots=True)
class Customer:
    """Whom a denial is about: a vault, its tenant, and the identity that it was asked with."""

    identity: IdentityName
    tenant: TenantId
    host: VaultHost


@dataclass(frozen=True, slots=True)
class Suspect:
    """A customer with a denial, of a kind that our fault can cause, that counts for the tally.

    It awaits its confirmation, is held, or was confirmed a moment ago: of many whom a fault strikes, the first are
    confirmed before the last are suspected.
    """

    customer: Customer
    reason: Reason
    since: datetime


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many customers have a key that is usable so far, or was until a moment ago."""

    tenants: int
    vaults: int

    @property
    def counted(self) -> Counted:
        """What stands for a customer among so many."""
        return Counted.TENANTS if self.tenants >= FEW_TENANTS else Counted.VAULTS

    def count(self, counted: Counted) -> int:
        """Give its size."""
        return self.tenants if counted is Counted.TENANTS else self.vaults


@dataclass(frozen=True, slots=True)
class Sample:
    """The customers whose vaults answered a look since some time."""

    since: datetime
    customers: frozenset[Customer]


@dataclass(frozen=True, slots=True)
class Finding:
    """Why it looks like our own fault: of so many customers so many are suspected.

    Attributes:
        identity: the identity whose customers these are; None: of all identities.
    """

    counted: Counted
    among: Among
    identity: IdentityName | None
    customers: int
    suspected: int
    reasons: tuple[Reason, ...]

    def data(self) -> dict[str, str | int | None]:
        """Give it as it is told."""
        return {
            "counted": str(self.counted),
            "among": str(self.among),
            "identity": None if self.identity is None else str(self.identity),
            "customers": self.customers,
            "suspected": self.suspected,
            "reasons": ",".join(self.reasons),
        }


Crowds = Mapping[IdentityName | None, Crowd]
"""The customers of each identity, and under None all of them."""


@dataclass(frozen=True, slots=True)
class Engagement:
    """An engaged brake.

    Attributes:
        mode: as it was then; an operator's always holds.
        finding: what the tally found; None when an operator engaged it.
        message: what the operator said; empty for the tally's.
    """

    by: EngagedBy
    since: datetime
    mode: BrakeMode
    finding: Finding | None
    message: str


@dataclass(frozen=True, slots=True)
class Brake:
    """The brake, as it is stored.

    Attributes:
        revision: grows with every change; a denial is committed under the one that it was judged by.
        counts_from: denials that began before do not count: an operator has judged them.
    """

    revision: int
    engagement: Engagement | None
    counts_from: datetime | None

    def holds(self, mode: BrakeMode) -> bool:
        """Whether it holds denials, in the mode that is set now."""
        by = None if self.engagement is None else self.engagement.by
        return by is EngagedBy.OPERATOR or (by is EngagedBy.TALLY and mode is BrakeMode.HOLD)


def tally(suspects: Collection[Suspect], crowds: Crowds, sample: Sample, threshold: Threshold) -> Finding | None:
    """Tell why it looks like our own fault, if it does.

    The share is taken of all customers, of each identity's, and of those that were looked at lately: a fault of a
    moment ago was met by few of a thousand yet, but by all that were asked since.
    """
    whole = crowds[None]
    for identity, group in _groups(suspects):
        crowd = crowds.get(identity, whole)
        suspected = _count(_customers(group), crowd.counted)
        if suspected < threshold.customers or not _spans_customers(group, whole):
            continue
        size = max(crowd.count(crowd.counted), suspected)
        if suspected / size >= threshold.share:
            return _finding(group, crowd.counted, Among.ALL, identity, customers=size, suspected=suspected)
        fresh = [suspect for suspect in group if suspect.since >= sample.since]
        struck, asked = _count(_customers(fresh), crowd.counted), _count(_asked(group, identity, sample), crowd.counted)
        enough = struck >= threshold.customers and asked >= threshold.least and _spans_customers(fresh, whole)
        if enough and struck / asked >= threshold.share:
            return _finding(fresh, crowd.counted, Among.LATELY_LOOKED_AT, identity, customers=asked, suspected=struck)
    return None


def is_too_early(suspects: Collection[Suspect], crowds: Crowds, sample: Sample, threshold: Threshold) -> bool:
    """Whether a tally that found nothing says nothing yet: enough are suspected, but too few others were looked at."""
    whole = crowds[None]
    suspected = _customers(suspects)
    if _count(suspected, whole.counted) < threshold.customers or not _spans_customers(suspects, whole):
        return False
    asked = _asked(suspects, None, sample)
    known = _count(suspected - asked, whole.counted)
    return _count(asked, whole.counted) < min(threshold.least, whole.count(whole.counted) - known)


def _asked(group: Collection[Suspect], identity: IdentityName | None, sample: Sample) -> set[Customer]:
    """Give whom the sample tells of: not those suspected before, who are asked more often than others."""
    lately = {customer for customer in sample.customers if identity in {None, customer.identity}}
    return (lately - _customers(group)) | {suspect.customer for suspect in group if suspect.since >= sample.since}


def _customers(group: Iterable[Suspect]) -> set[Customer]:
    return {suspect.customer for suspect in group}


def _groups(suspects: Collection[Suspect]) -> Iterator[tuple[IdentityName | None, Collection[Suspect]]]:
    yield None, suspects
    for identity in sorted({suspect.customer.identity for suspect in suspects}):
        yield identity, [suspect for suspect in suspects if suspect.customer.identity == identity]


def _spans_customers(group: Iterable[Suspect], whole: Crowd) -> bool:
    """Whether it is more than one tenant's doing, where there are more."""
    return whole.tenants < 2 or len({suspect.customer.tenant for suspect in group}) > 1  # noqa: PLR2004


def _count(customers: Iterable[Customer], counted: Counted) -> int:
    if counted is Counted.TENANTS:
        return len({customer.tenant for customer in customers})
    return len({customer.host for customer in customers})


def _finding(
    group: Iterable[Suspect],
    counted: Counted,
    among: Among,
    identity: IdentityName | None,
    *,
    customers: int,
    suspected: int,
) -> Finding:
    reasons = tuple(sorted({suspect.reason for suspect in group}))
    return Finding(counted, among, identity, customers=customers, suspected=suspected, reasons=reasons)
