"""Verdicts: what a check decided becomes the watch's rows in one commit, and then reaches the accounts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, exists, select, update

from byokd.adapters.sql import brake
from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.ledger import WATCHED_ACCOUNTS, Change, News, commit_states, expect
from byokd.adapters.sql.outbox import record_key_events
from byokd.adapters.sql.rows import account_of, verdict_of, verdict_values, warning_values
from byokd.adapters.sql.tables import accounts, vaults, watches, wrapping_versions
from byokd.adapters.sql.watches import add_version
from byokd.domain.accounts import follow
from byokd.domain.decide import Adoption, Decision
from byokd.domain.identifiers import WatchId, WrappingVersionId
from byokd.domain.verdict import Verdict, Watch, WrappingVersion
from byokd.ports import StaleError
from byokd.records import Doubt

_BEHIND = accounts.c.followed != wrapping_versions.c.number
_UNCARRIED = wrapping_versions.c.carried != wrapping_versions.c.number
_HELD = select(vaults.c.epoch).where(vaults.c.host == bindparam("vault")).with_for_update(read=True)
_REVISE = update(watches).where(watches.c.id == bindparam("watch"), watches.c.revision == bindparam("known"))
_JUDGE = update(wrapping_versions).where(
    wrapping_versions.c.id == bindparam("version_id"), wrapping_versions.c.watch == bindparam("of_watch")
)
_SOMEBODY_BEHIND = exists().where(accounts.c.wrapping_version == wrapping_versions.c.id, _BEHIND)
_CHANGED = (
    select(wrapping_versions.c.id)
    .where(_UNCARRIED, _SOMEBODY_BEHIND)
    .order_by(wrapping_versions.c.number, wrapping_versions.c.id)
    .limit(bindparam("most"))
)
_FOLLOWERS = (
    WATCHED_ACCOUNTS.where(wrapping_versions.c.id.in_(_CHANGED), _BEHIND)
    .order_by(wrapping_versions.c.number, accounts.c.id)
    .limit(bindparam("most"))
    .with_for_update(of=accounts)
)
_IN_DOUBT = select(wrapping_versions).where(
    wrapping_versions.c.retired_at.is_(None),
    wrapping_versions.c.suspicion_reason.is_not(None) | wrapping_versions.c.unverified_reason.is_not(None),
)
_CARRIED = update(wrapping_versions).where(_UNCARRIED, ~_SOMEBODY_BEHIND).values(carried=wrapping_versions.c.number)


def commit_decision(
    connection: Connection,
    watch: Watch,
    decision: Decision,
    *,
    recorder: Recorder,
    now: datetime,
    brake_revision: int | None = None,
) -> Watch:
    """See `Store.commit_decision`."""
    if brake_revision is not None:
        brake.guard(connection, brake_revision)
    _guard(connection, watch, decision)
    _write_verdicts(connection, watch, decision.verdicts)
    versions = tuple(
        replace(version, verdict=decision.verdicts.get(version.id, version.verdict)) for version in watch.versions
    )
    current, known = watch.current, watch.adopted
    if decision.adoption is not None:
        adopted = _adopt(connection, watch.id, decision.adoption, now=now)
        versions, current, known = (*versions, adopted), adopted.id, known | {adopted.version}
    # Several identities may watch one key, and each is told for itself.
    told = [(watch.key, replace(event, data={**event.data, "identity": watch.identity})) for event in decision.events]
    record_key_events(connection, told, recorder=recorder, now=now)
    return replace(
        watch,
        revision=watch.revision + 1,
        current=current,
        versions=versions,
        adopted=known,
        warnings=decision.warnings,
        due_at=decision.next_due,
    )


def doubts(connection: Connection) -> Mapping[WrappingVersionId, Doubt]:
    """See `Store.doubts`."""
    verdicts = {row.id: verdict_of(row) for row in connection.execute(_IN_DOUBT)}
    return {WrappingVersionId(id_): Doubt(one.suspicion, one.unverified) for id_, one in verdicts.items()}


def _guard(connection: Connection, watch: Watch, decision: Decision) -> None:
    """Write the watch's own row, if it and its vault are as they were when the check began."""
    if connection.scalar(_HELD, {"vault": watch.key.host}) != watch.epoch:
        raise StaleError(f"the vault {watch.key.host} was claimed anew")
    written = {
        "watch": watch.id,
        "known": watch.revision,
        "revision": watch.revision + 1,
        "due_at": decision.next_due,
        "warnings": warning_values(decision.warnings),
    }
    expect(connection.execute(_REVISE, written).rowcount, 1, what="watches")


def _write_verdicts(connection: Connection, watch: Watch, verdicts: Mapping[WrappingVersionId, Verdict]) -> None:
    rows = [
        {**verdict_values(verdict), "version_id": version_id, "of_watch": watch.id}
        for version_id, verdict in verdicts.items()
    ]
    if rows:
        expect(connection.execute(_JUDGE, rows).rowcount, len(rows), what="wrapping versions")


def _adopt(connection: Connection, watch: WatchId, adoption: Adoption, *, now: datetime) -> WrappingVersion:
    """Put a version in the place of the current one."""
    left = (wrapping_versions.c.watch == watch) & wrapping_versions.c.is_current.is_(True)
    expect(
        connection.execute(update(wrapping_versions).where(left).values(is_current=False)).rowcount,
        1,
        what="current versions",
    )
    return add_version(
        connection,
        watch,
        version=adoption.version,
        created=adoption.created,
        probe=adoption.probe,
        verdict=adoption.verdict,
        now=now,
    )


def follow_verdicts(connection: Connection, *, limit: int, recorder: Recorder, now: datetime) -> int:
    """See `Store.follow`. Lower verdict numbers first, then by account; zero means that nobody is left behind."""
    rows = connection.execute(_FOLLOWERS, {"most": limit}).all()
    verdicts = _verdicts(connection, {row.wrapping_version for row in rows})
    changes = []
    for row in rows:
        before, verdict = account_of(row), verdicts[row.wrapping_version]
        after, types = follow(before, verdict)
        changes.append(Change.of(before, after, [News(type_, verdict) for type_ in types], now=now))
    commit_states(connection, changes, recorder=recorder, now=now)
    connection.execute(_CARRIED)
    return len(changes)


def _verdicts(connection: Connection, version_ids: set[int]) -> dict[int, Verdict]:
    rows = connection.execute(select(wrapping_versions).where(wrapping_versions.c.id.in_(version_ids)))
    return {row.id: verdict_of(row) for row in rows}
