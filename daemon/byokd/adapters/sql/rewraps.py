"""Rewraps: which account keys are to move to their watch's current version, and what became of it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, FromClause, bindparam, exists, func, select

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.ledger import (
    WATCHED_ACCOUNTS,
    Change,
    News,
    commit,
    lock,
    replace_key,
)
from byokd.adapters.sql.rows import AnyRow, account_of, sealed_of, stored_identifier, verdict_of
from byokd.adapters.sql.tables import account_keys, accounts, watches, wrapping_versions
from byokd.domain.accounts import follow
from byokd.domain.identifiers import KeyVersion, VaultHost, WatchId, WrappingVersionId
from byokd.domain.vocabulary import EventType, Outcome
from byokd.ports import StaleError
from byokd.records import RewrapQueue, RewrapWork, SealedKey, WrappedKey

_left = wrapping_versions.alias("left_behind")
_target = wrapping_versions.alias("target")


def _well(version: FromClause) -> ColumnElement[bool]:
    usable: ColumnElement[bool] = version.c.outcome == str(Outcome.USABLE)
    return usable & version.c.suspicion_reason.is_(None) & version.c.unverified_reason.is_(None)


_DUE_AT = func.coalesce(accounts.c.rewrap_due_at, _target.c.adopted_at)
_DUE = accounts.c.rewrap_due_at.is_(None) | (accounts.c.rewrap_due_at <= bindparam("by"))
_QUEUES = (
    select(watches.c.id, watches.c.host)
    .join_from(_left, watches, watches.c.id == _left.c.watch)
    .join(_target, (_target.c.watch == _left.c.watch) & _target.c.is_current.is_(True))
    .where(_left.c.is_current.is_(False), _left.c.retired_at.is_(None), _well(_left), _well(_target))
    .where(exists().where(accounts.c.wrapping_version == _left.c.id, _DUE))
    .group_by(watches.c.id, watches.c.host)
    .order_by(func.min(_target.c.adopted_at), watches.c.id)
)
_WORK = (
    WATCHED_ACCOUNTS.add_columns(
        _target.c.version.label("target_version"),
        account_keys.c.key_identifier,
        account_keys.c.sealed,
        account_keys.c.storage_key,
        account_keys.c.system_key,
    )
    .join(_target, (_target.c.watch == accounts.c.watch) & _target.c.is_current.is_(True))
    .join(
        account_keys,
        (account_keys.c.account == accounts.c.id) & (account_keys.c.generation == accounts.c.generation),
    )
    .where(
        # As a list of few, because a planner without statistics would begin with the many current versions.
        wrapping_versions.c.id.in_(
            select(_left.c.id).where(_left.c.is_current.is_(False), _left.c.retired_at.is_(None))
        ),
        _well(wrapping_versions),
        # Nor onto one: it could not be committed.
        _well(_target),
        _DUE,
    )
    .order_by(_DUE_AT, accounts.c.id)
)
_FIT_TARGET = (
    select(wrapping_versions)
    .where(
        wrapping_versions.c.watch == bindparam("of_watch"),
        wrapping_versions.c.version == bindparam("wanted"),
        wrapping_versions.c.is_current.is_(True),
        wrapping_versions.c.outcome == str(Outcome.USABLE),
    )
    .with_for_update(read=True)
)


def rewrap_queues(connection: Connection, *, now: datetime) -> Sequence[RewrapQueue]:
    """See `Store.rewrap_queues`."""
    return [RewrapQueue(WatchId(row.id), VaultHost(row.host)) for row in connection.execute(_QUEUES, {"by": now})]


def rewrap_work(
    connection: Connection, *, limit: int, now: datetime, watch: WatchId | None = None
) -> Sequence[RewrapWork]:
    """See `Store.rewrap_work`. An account is due from the adoption on, or from the time set after a failure."""
    wanted = _WORK if watch is None else _WORK.where(accounts.c.watch == watch)
    return [_work_of(row) for row in connection.execute(wanted.limit(limit), {"by": now})]


def _work_of(row: AnyRow) -> RewrapWork:
    account = account_of(row)
    identifier = stored_identifier(row.key_identifier)
    return RewrapWork(
        account=account,
        wrapped=WrappedKey(account.id, account.generation, identifier, sealed_of(row)),
        target=identifier.at(KeyVersion(row.target_version)),
        attempts=row.rewrap_attempts,
    )


def commit_rewrap(
    connection: Connection, work: RewrapWork, sealed: SealedKey, *, recorder: Recorder, now: datetime
) -> None:
    """See `Store.commit_rewrap`. `rewrapped` comes first, then what the new version's verdict does to the state."""
    before = account_of(_unmoved(connection, work))
    aim = {"of_watch": before.watch, "wanted": work.target.version}
    target = connection.execute(_FIT_TARGET, aim).one_or_none()
    if target is None:
        raise StaleError("the target version is not the watch's current one any more, or is denied")
    verdict = verdict_of(target)
    moved = replace(
        before,
        generation=before.generation + 1,
        wrapping_version=WrappingVersionId(target.id),
        current=work.target,
    )
    after, types = follow(moved, verdict)
    rewrapped = News(EventType.ACCOUNTKEY_REWRAPPED, detail={"previousKeyIdentifier": str(before.current)})
    change = Change.of(before, after, [rewrapped, *(News(type_, verdict) for type_ in types)], now=now)
    commit(connection, [change], recorder=recorder, now=now, rewrap_attempts=0, rewrap_due_at=None)
    replace_key(connection, change, sealed, now=now)


def rewrap_failed(
    connection: Connection, work: RewrapWork, message: str, *, recorder: Recorder, now: datetime, retry_at: datetime
) -> None:
    """See `Store.rewrap_failed`. The event's detail: `attempt`, `failure` and `targetKeyIdentifier`."""
    row = _unmoved(connection, work)
    before, attempt = account_of(row), row.rewrap_attempts + 1
    detail = {"attempt": attempt, "failure": message, "targetKeyIdentifier": str(work.target)}
    doubled = attempt & (attempt - 1) == 0
    news = [News(EventType.ACCOUNTKEY_REWRAP_FAILED, detail=detail)] if doubled else []
    change = Change.of(before, before, news, now=now)
    commit(connection, [change], recorder=recorder, now=now, rewrap_attempts=attempt, rewrap_due_at=retry_at)


def _unmoved(connection: Connection, work: RewrapWork) -> AnyRow:
    """Lock the account's row, if its key is still the one of the work. Its state may have changed meanwhile."""
    row = lock(connection, work.account.id)
    known = (work.account.incarnation, work.account.generation)
    if row is None or (row.incarnation, row.generation) != known:
        raise StaleError(f"the account key of {work.account.id.name} was moved meanwhile")
    return row
