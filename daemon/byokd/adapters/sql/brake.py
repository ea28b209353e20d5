"""The brake: engaged and released in transactions that hold its one row."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from byokd.adapters.sql import brake_counts as counts
from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.ledger import expect
from byokd.adapters.sql.outbox import record_service_event
from byokd.adapters.sql.rows import AnyRow, Values, verdict_of, verdict_values
from byokd.adapters.sql.tables import brake, watches, wrapping_versions
from byokd.domain.accounts import JsonValue, instant
from byokd.domain.brake import Brake, BrakeMode, EngagedBy, Engagement, ReleaseCause, Ruling, is_too_early, tally
from byokd.domain.verdict import Verdict
from byokd.domain.vocabulary import DetectedBy, EventType
from byokd.domain.weigh import applied, discarded
from byokd.ports import StaleError
from byokd.ports.brake import BrakeTerms, Consulted, Settlement

_TO_SETTLE = (
    select(wrapping_versions)
    .where(counts.HELD)
    .order_by(wrapping_versions.c.watch, wrapping_versions.c.id)
    .limit(bindparam("most"))
    .with_for_update()
)
_JUDGE = update(wrapping_versions).where(wrapping_versions.c.id == bindparam("version_id"), counts.HELD)
_REVISE = (
    update(watches)
    .where(watches.c.id.in_(bindparam("touched", expanding=True)))
    .values(revision=watches.c.revision + 1)
)
_RELEASED: Values = {"engaged_at": None, "engaged_by": None, "mode": None, "finding": None, "message": "", "settled": 0}
_NO_FINDING = ("counted", "among", "identity", "customers", "suspected", "reasons")


def consult(connection: Connection, terms: BrakeTerms, *, recorder: Recorder, now: datetime) -> Consulted:
    """See `BrakeStore.consult_brake`."""
    found = _locked(connection)
    if found.engagement is not None:
        return _consulted(found, terms, engaged_now=False)
    suspects = counts.suspects(connection, found, terms)
    if len({suspect.customer for suspect in suspects}) < terms.threshold.customers:
        return _consulted(found, terms, engaged_now=False)
    crowds = counts.crowds(connection, terms)
    finding = tally(suspects, crowds, terms.sample, terms.threshold)
    if finding is not None:
        begun = Engagement(EngagedBy.TALLY, now, terms.mode, finding, "")
        engaged = _engage(connection, found, begun, terms, recorder=recorder, now=now)
        return _consulted(engaged, terms, engaged_now=True)
    if is_too_early(suspects, crowds, terms.sample, terms.threshold):
        return Consulted(Ruling.WAIT, found, engaged_now=False)
    return _consulted(found, terms, engaged_now=False)


def engage(connection: Connection, message: str, terms: BrakeTerms, *, recorder: Recorder, now: datetime) -> Brake:
    """See `BrakeStore.engage_brake`."""
    found = _locked(connection)
    before = found.engagement
    since, finding = (now, None) if before is None else (before.since, before.finding)
    ordered = Engagement(EngagedBy.OPERATOR, since, BrakeMode.HOLD, finding, message)
    return _engage(connection, found, ordered, terms, recorder=recorder, now=now)


def release_proved(connection: Connection, terms: BrakeTerms, *, recorder: Recorder, now: datetime) -> Brake:
    """See `BrakeStore.release_proved_brake`."""
    found = _locked(connection)
    engagement = found.engagement
    if engagement is None or engagement.by is EngagedBy.OPERATOR or counts.is_unproved(connection, engagement):
        return found
    suspects = counts.suspects(connection, found, terms)
    if tally(suspects, counts.crowds(connection, terms), terms.sample, terms.threshold) is not None:
        return found
    return _release(connection, found, engagement, ReleaseCause.PROOF, recorder=recorder, now=now)


def settle_held(
    connection: Connection, cause: ReleaseCause, *, limit: int, recorder: Recorder, now: datetime
) -> Settlement:
    """See `BrakeStore.settle_held`."""
    found = _locked(connection)
    if found.engagement is None:
        return Settlement(0, found)
    rows = connection.execute(_TO_SETTLE, {"most": limit}).all()
    if rows:
        written = [{**verdict_values(_settled(row, cause, now)), "version_id": row.id} for row in rows]
        expect(connection.execute(_JUDGE, written).rowcount, len(written), what="held denials")
        connection.execute(_REVISE, {"touched": sorted({row.watch for row in rows})})
        connection.execute(update(brake).values(settled=brake.c.settled + len(rows)))
    if len(rows) < limit:
        found = _release(connection, found, found.engagement, cause, recorder=recorder, now=now)
    return Settlement(len(rows), found)


def guard(connection: Connection, revision: int) -> None:
    """Raise StaleError unless the brake is as it was when it was consulted; it stays so until the transaction ends."""
    if connection.scalar(select(brake.c.revision).with_for_update(read=True)) != revision:
        raise StaleError("the brake changed meanwhile")


def _locked(connection: Connection) -> Brake:
    return counts.brake_of(connection.execute(counts.BRAKE.with_for_update()).one())


def _consulted(found: Brake, terms: BrakeTerms, *, engaged_now: bool) -> Consulted:
    return Consulted(Ruling.HOLD if found.holds(terms.mode) else Ruling.APPLY, found, engaged_now=engaged_now)


def _engage(
    connection: Connection,
    found: Brake,
    engagement: Engagement,
    terms: BrakeTerms,
    *,
    recorder: Recorder,
    now: datetime,
) -> Brake:
    """Write an engagement and tell of it."""
    finding = None if engagement.finding is None else engagement.finding.data()
    _write(
        connection,
        found,
        {
            "engaged_at": engagement.since,
            "engaged_by": str(engagement.by),
            "mode": str(engagement.mode),
            "finding": finding,
            "message": engagement.message,
        },
    )
    data: dict[str, JsonValue] = {
        "engagedBy": str(engagement.by),
        "since": instant(engagement.since),
        "mode": str(engagement.mode),
        "holdUntil": instant(now + terms.max_hold),
        "message": engagement.message,
        **(finding or dict.fromkeys(_NO_FINDING)),
    }
    record_service_event(connection, EventType.SERVICE_BRAKE_ENGAGED, data, recorder=recorder, now=now)
    return replace(found, revision=found.revision + 1, engagement=engagement)


def _release(
    connection: Connection,
    found: Brake,
    engagement: Engagement,
    cause: ReleaseCause,
    *,
    recorder: Recorder,
    now: datetime,
) -> Brake:
    counts_from = now if cause is ReleaseCause.CONFIRMED else found.counts_from
    settled = connection.scalar(select(brake.c.settled))
    _write(connection, found, {**_RELEASED, "released_at": now, "counts_from": counts_from})
    data: dict[str, JsonValue] = {"cause": str(cause), "held": settled, "since": instant(engagement.since)}
    record_service_event(connection, EventType.SERVICE_BRAKE_RELEASED, data, recorder=recorder, now=now)
    return Brake(found.revision + 1, None, counts_from)


def _write(connection: Connection, found: Brake, values: dict[str, Any]) -> None:
    known = update(brake).where(brake.c.revision == found.revision)
    expect(connection.execute(known.values(revision=found.revision + 1, **values)).rowcount, 1, what="brakes")


def _settled(row: AnyRow, cause: ReleaseCause, now: datetime) -> Verdict:
    verdict = verdict_of(row)
    if cause is ReleaseCause.CONFIRMED:
        return applied(verdict, now=now, detected_by=DetectedBy.OPERATOR)
    return discarded(verdict, now=now)
