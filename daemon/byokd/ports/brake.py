"""What is stored of the brake, and how it is consulted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from byokd.domain.brake import Brake, BrakeMode, ReleaseCause, Ruling, Sample, Threshold
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId
from byokd.domain.vocabulary import Reason


@dataclass(frozen=True, slots=True)
class BrakeTerms:
    """What the brake goes by.

    Attributes:
        max_hold: how long a denial is held.
        sample: who was looked at lately.
        denied_since: denials that were confirmed since then count like those that await it.
    """

    threshold: Threshold
    mode: BrakeMode
    max_hold: timedelta
    sample: Sample
    denied_since: datetime


@dataclass(frozen=True, slots=True)
class Consulted:
    """What becomes of a denial, and under which revision of the brake that may be committed.

    `engaged_now` tells that it was this consultation that engaged it.
    """

    ruling: Ruling
    brake: Brake
    engaged_now: bool


@dataclass(frozen=True, slots=True)
class HeldDenial:
    """A denial that is held: of which key version, why, since when, and how many accounts it would close."""

    key: KeyIdentifier
    identity: IdentityName
    tenant: TenantId
    reason: Reason
    message: str
    since: datetime
    held_since: datetime
    accounts: int


@dataclass(frozen=True, slots=True)
class BrakeReport:
    """The brake as an operator wants to see it.

    Attributes:
        held: how many denials are held, each of one key version of a watch.
        held_since: since when the oldest of them is.
        denials: the oldest of them.
        accounts: how many accounts these versions wrap, and `confirm` would close.
        tenants, vaults: of how many tenants and vaults they are.
    """

    brake: Brake
    held: int
    held_since: datetime | None
    denials: Sequence[HeldDenial]
    accounts: int = 0
    tenants: int = 0
    vaults: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """A part of an operator's judgement: how many denials it settled, and the brake after it.

    The judgement is carried out when the brake is not engaged any more.
    """

    settled: int
    brake: Brake


class BrakeStore(Protocol):
    """What is stored of the brake. Each method is one transaction; see `Store`.

    Every change of the brake grows its revision and is committed with its event.
    """

    async def brake_report(self, *, limit: int) -> BrakeReport:
        """Give the brake and at most `limit` of the denials that it holds, the oldest first."""
        ...

    async def consult_brake(self, terms: BrakeTerms, *, now: datetime) -> Consulted:
        """Say what becomes of a confirmed denial that our own fault can cause.

        Counts who is suspected, and engages the brake with `brake-engaged` when that is due.
        """
        ...

    async def engage_brake(self, message: str, terms: BrakeTerms, *, now: datetime) -> Brake:
        """Engage by an operator's order, with `brake-engaged`; one that the tally engaged is now the operator's."""
        ...

    async def release_proved_brake(self, terms: BrakeTerms, *, now: datetime) -> Brake:
        """Release a brake that the tally engaged, with `brake-released`, if it is proved that it may go; give it.

        It is when the tally finds nothing, and nothing is held any more, and nothing was denied since for a reason that
        can be our fault and is so still: not what was held for too long, nor what was only observed.
        """
        ...

    async def settle_held(self, cause: ReleaseCause, *, limit: int, now: datetime) -> Settlement:
        """Apply or discard at most `limit` held denials on an operator's word; with the last ones release the brake.

        What is applied is a changed verdict, which accounts follow. What is discarded is a first denial again, of now:
        it counts like any other until a look finds the key usable. `brake-released` tells how many there were in all.
        Once denials were applied, those that began before do not count for the tally any more. Without an engaged brake
        nothing happens.
        """
        ...
