"""What nothing needs any more: superseded wraps, versions that wrap nothing, watches without accounts."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, select, true, tuple_, update

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.claims import release_claims
from byokd.adapters.sql.ledger import expect
from byokd.adapters.sql.outbox import record_key_events
from byokd.adapters.sql.rows import AnyRow, watched_key
from byokd.adapters.sql.tables import account_keys, accounts, vaults, watches, wrapping_versions
from byokd.domain.decide import KeyEvent
from byokd.domain.identifiers import KeyIdentifier, KeyVersion, WatchId
from byokd.domain.vocabulary import EventType, Outcome
from byokd.records import Settled

_IN_USE = wrapping_versions.c.retired_at.is_(None)
_WRAPS = exists().where(account_keys.c.wrapping_version == wrapping_versions.c.id)
_UNNEEDED_VERSION = wrapping_versions.c.is_current.is_(False) & _IN_USE & ~_WRAPS
_UNNEEDED_WATCH = ~exists().where(accounts.c.watch == watches.c.id) & ~exists(
    select(account_keys.c.account)
    .join(wrapping_versions, account_keys.c.wrapping_version == wrapping_versions.c.id)
    .where(wrapping_versions.c.watch == watches.c.id)
)
_TRUSTED = exists(
    select(accounts.c.id)
    .outerjoin(wrapping_versions, accounts.c.wrapping_version == wrapping_versions.c.id)
    .where(
        accounts.c.id == account_keys.c.account,
        accounts.c.damaged_since.is_(None),
        accounts.c.wrapping_version.is_(None)
        | (
            (wrapping_versions.c.outcome == str(Outcome.USABLE))
            & wrapping_versions.c.suspicion_reason.is_(None)
            & wrapping_versions.c.unverified_reason.is_(None)
        ),
    )
)
_WRAP = tuple_(account_keys.c.account, account_keys.c.generation)
_SETTLED = delete(account_keys).where(
    _WRAP.in_(
        select(account_keys.c.account, account_keys.c.generation)
        .where(account_keys.c.superseded_at < bindparam("before"), _TRUSTED)
        .order_by(account_keys.c.superseded_at)
        .limit(bindparam("most"))
    )
)
_VERSIONS = select(
    wrapping_versions.c.watch,
    wrapping_versions.c.version,
    watches.c.host,
    watches.c.key_name,
    watches.c.pinned,
).join(watches, wrapping_versions.c.watch == watches.c.id)


def settle(connection: Connection, *, before: datetime, limit: int, recorder: Recorder, now: datetime) -> Settled:
    """See `Store.settle`. Erases at most `limit` wraps. Retiring a version counts as a write to its watch."""
    erased = connection.execute(_SETTLED, {"before": before, "most": limit}).rowcount
    # A version can be left without ever having wrapped anything, so the versions are looked at in any case.
    touched = _retire(connection, true(), recorder=recorder, now=now)
    if erased:
        _drop(connection, true(), recorder=recorder, now=now)
    return Settled(erased, touched)


def erase_wraps(connection: Connection, account: str) -> set[int]:
    """Erase every wrap of an account, current and superseded; give the watches that may have lost their last one."""
    wraps = account_keys.c.account == account
    made = select(wrapping_versions.c.watch).join(
        account_keys, account_keys.c.wrapping_version == wrapping_versions.c.id
    )
    touched = set(connection.scalars(made.where(wraps)))
    connection.execute(delete(account_keys).where(wraps))
    return touched


def release(connection: Connection, touched: Iterable[int], *, recorder: Recorder, now: datetime) -> None:
    """Retire versions of these watches that wrap nothing; drop those without accounts and wraps, and their vaults."""
    among = watches.c.id.in_(sorted(touched))
    _retire(connection, among, recorder=recorder, now=now)
    _drop(connection, among, recorder=recorder, now=now)


def _retire(
    connection: Connection, among: ColumnElement[bool], *, recorder: Recorder, now: datetime
) -> frozenset[WatchId]:
    unneeded = _UNNEEDED_VERSION & wrapping_versions.c.watch.in_(select(watches.c.id).where(among))
    rows = connection.execute(_VERSIONS.where(unneeded).order_by(wrapping_versions.c.id)).all()
    touched = frozenset(WatchId(row.watch) for row in rows)
    if not touched:
        return touched
    retired = connection.execute(update(wrapping_versions).where(unneeded).values(retired_at=now))
    expect(retired.rowcount, len(rows), what="wrapping versions")
    connection.execute(
        update(watches).where(watches.c.id == bindparam("watch")).values(revision=watches.c.revision + 1),
        [{"watch": watch} for watch in sorted(touched)],
    )
    _tell(connection, rows, recorder=recorder, now=now)
    return touched


def _drop(connection: Connection, among: ColumnElement[bool], *, recorder: Recorder, now: datetime) -> None:
    unneeded = connection.execute(
        select(watches.c.id, watches.c.host, watches.c.identity).where(among, _UNNEEDED_WATCH)
    ).all()
    if not unneeded:
        return
    gone = [{"watch": row.id} for row in unneeded]
    rows = [
        version
        for watch in gone
        for version in connection.execute(
            _VERSIONS.where(wrapping_versions.c.watch == watch["watch"], _IN_USE).order_by(wrapping_versions.c.id)
        )
    ]
    connection.execute(delete(wrapping_versions).where(wrapping_versions.c.watch == bindparam("watch")), gone)
    dropped = connection.execute(delete(watches).where(watches.c.id == bindparam("watch")), gone)
    expect(dropped.rowcount, len(gone), what="watches")
    release_claims(connection, {row.identity for row in unneeded})
    connection.execute(
        delete(vaults).where(vaults.c.host == bindparam("vault"), ~exists().where(watches.c.host == vaults.c.host)),
        [{"vault": host} for host in sorted({row.host for row in unneeded})],
    )
    _tell(connection, rows, recorder=recorder, now=now)


def _tell(connection: Connection, rows: Iterable[AnyRow], *, recorder: Recorder, now: datetime) -> None:
    """Publish that versions can be disabled, but for those that another watch of the same key still needs."""
    retired = dict.fromkeys(watched_key(row).at(KeyVersion(row.version)) for row in rows)
    news = [
        (identifier, KeyEvent(EventType.KEY_VERSION_RETIRED, {"keyIdentifier": str(identifier)}))
        for identifier in retired
        if not _needed(connection, identifier)
    ]
    record_key_events(connection, news, recorder=recorder, now=now)


def _needed(connection: Connection, identifier: KeyIdentifier) -> bool:
    same_key = (watches.c.host == identifier.host) & (func.lower(watches.c.key_name) == identifier.name.lower())
    others = _VERSIONS.where(same_key, wrapping_versions.c.version == identifier.version, _IN_USE).limit(1)
    return connection.execute(others).first() is not None
