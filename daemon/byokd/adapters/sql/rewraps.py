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
    lock_all,
    repaired,
    replace_keys,
)
from byokd.adapters.sql.rows import AnyRow, account_of, sealed_of, stored_identifier, verdict_of
from byokd.adapters.sql.tables import account_keys, accounts, watches, wrapping_versions
from byokd.domain.accounts import Account, follow
from byokd.domain.identifiers import AccountId, KeyIdentifier, KeyVersion, VaultHost, WatchId, WrappingVersionId
from byokd.domain.vocabulary import EventType, Outcome
from byokd.ports import StaleError
from byokd.records import Rewrapped, RewrapQueue, RewrapWork, SealedKey, WrappedKey

_left = wrapping_versions.alias("left_behind")
_target = wrapping_versions.alias("target")


def _well(version: FromClause) -> ColumnElement[bool]:
    usable: ColumnElement[bool] = version.c.outcome == str(Outcome.USABLE)
    return usable & version.c.suspicion_reason.is_(None) & version.c.unverified_reason.is_(None)


_DUE_AT = func.coalesce(accounts.c.rewrap_due_at, _target.c.adopted_at)
_UNTRIED = accounts.c.rewrap_due_at.is_(None)
_TRIED = accounts.c.rewrap_due_at.is_not(None) & (accounts.c.rewrap_due_at <= bindparam("by"))
_OF_LEFT = accounts.c.wrapping_version == _left.c.id
_QUEUES = (
    select(watches.c.id, watches.c.host)
    .join_from(_left, watches, watches.c.id == _left.c.watch)
    .join(_target, (_target.c.watch == _left.c.watch) & _target.c.is_current.is_(True))
    .where(_left.c.is_current.is_(False), _left.c.retired_at.is_(None), _well(_left), _well(_target))
    # Apart, because each is answered by an index of its own.
    .where(exists().where(_OF_LEFT, _UNTRIED) | exists().where(_OF_LEFT, _TRIED))
    .group_by(watches.c.id, watches.c.host)
    .order_by(func.min(_target.c.adopted_at), watches.c.id)
)
_LEFT_OF = (
    select(_left.c.id)
    .where(
        _left.c.watch == bindparam("of_watch"),
        _left.c.is_current.is_(False),
        _left.c.retired_at.is_(None),
        _well(_left),
    )
    .order_by(_left.c.id)
)
_MOVABLE = (
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
    # Neither off nor onto a version in doubt: it could not be committed.
    .where(_well(wrapping_versions), _well(_target))
)
_WORK = _MOVABLE.where(
    # As a list of few, because a planner without statistics would begin with the many current versions.
    wrapping_versions.c.id.in_(select(_left.c.id).where(_left.c.is_current.is_(False), _left.c.retired_at.is_(None))),
    _UNTRIED | _TRIED,
).order_by(_DUE_AT, accounts.c.id)
_WORK_OF_VERSION = _MOVABLE.where(accounts.c.wrapping_version == bindparam("of_version")).limit(bindparam("most"))
_UNTRIED_WORK = _WORK_OF_VERSION.where(_UNTRIED).order_by(accounts.c.id)
_TRIED_WORK = _WORK_OF_VERSION.where(_TRIED).order_by(accounts.c.rewrap_due_at, accounts.c.id)
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
    """See `Store.rewrap_work`. An account is due from the adoption on, or from the time set after a failure.

    Of one watch, those never tried come first. Version by version and in the order of an index, so that a batch costs
    the same however many accounts wait.
    """
    if watch is None:
        return [_work_of(row) for row in connection.execute(_WORK.limit(limit), {"by": now})]
    versions = connection.scalars(_LEFT_OF, {"of_watch": watch}).all()
    rows: list[AnyRow] = []
    for statement in (_UNTRIED_WORK, _TRIED_WORK):
        for version in versions:
            if len(rows) < limit:
                bounds = {"of_version": version, "most": limit - len(rows), "by": now}
                rows += connection.execute(statement, bounds)
    return [_work_of(row) for row in rows]


def _work_of(row: AnyRow) -> RewrapWork:
    account = account_of(row)
    identifier = stored_identifier(row.key_identifier)
    return RewrapWork(
        account=account,
        wrapped=WrappedKey(account.id, account.generation, identifier, sealed_of(row)),
        target=identifier.at(KeyVersion(row.target_version)),
        attempts=row.rewrap_attempts,
    )


def commit_rewraps(
    connection: Connection, moved: Sequence[Rewrapped], *, recorder: Recorder, now: datetime
) -> frozenset[AccountId]:
    """See `Store.commit_rewraps`. `rewrapped` comes first, then what the new version's verdict does to the state."""
    rows = lock_all(connection, (one.work.account.id for one in moved))
    targets = _Targets(connection)
    replaced: list[tuple[Change, SealedKey]] = []
    for one in moved:
        # Taken out, because a second rewrap of the same account is as stale as one of yesterday.
        row = rows.pop(str(one.work.account.id), None)
        if row is None or not _is_unmoved(row, one.work):
            continue
        before = account_of(row)
        target = targets.fit(before.watch, one.work.target.version)
        if target is not None:
            replaced.append((_moved_to(before, one.work.target, target, now=now), one.sealed))
    if replaced:
        changes = [change for change, _ in replaced]
        commit(connection, changes, recorder=recorder, now=now, rewrap_attempts=0, rewrap_due_at=None)
        replace_keys(connection, replaced, now=now)
    return frozenset(change.before.id for change, _ in replaced)


class _Targets:
    """The versions that rewraps of one transaction go to, each read and locked once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: dict[tuple[WatchId | None, KeyVersion | None], AnyRow | None] = {}

    def fit(self, watch: WatchId | None, version: KeyVersion | None) -> AnyRow | None:
        """Give the version if it is the watch's current one and not denied."""
        if (watch, version) not in self._found:
            aim = {"of_watch": watch, "wanted": version}
            self._found[watch, version] = self._connection.execute(_FIT_TARGET, aim).one_or_none()
        return self._found[watch, version]


def _moved_to(before: Account, identifier: KeyIdentifier, target: AnyRow, *, now: datetime) -> Change:
    verdict = verdict_of(target)
    moved = replace(
        before,
        generation=before.generation + 1,
        wrapping_version=WrappingVersionId(target.id),
        current=identifier,
    )
    after, types = follow(moved, verdict)
    after, news = repaired(before, after)
    rewrapped = News(EventType.ACCOUNTKEY_REWRAPPED, detail={"previousKeyIdentifier": str(before.current)})
    return Change.of(before, after, [rewrapped, *news, *(News(type_, verdict) for type_ in types)], now=now)


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
    if row is None or not _is_unmoved(row, work):
        raise StaleError(f"the account key of {work.account.id.name} was moved meanwhile")
    return row


def _is_unmoved(row: AnyRow, work: RewrapWork) -> bool:
    return (row.incarnation, row.generation) == (work.account.incarnation, work.account.generation)
