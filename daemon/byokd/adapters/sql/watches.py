"""Watches: reading them, claiming their vaults, and when they are due."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby

from sqlalchemy import ColumnElement, Connection, and_, bindparam, exists, func, insert, select, update

from byokd.adapters.sql.rows import verdict_values, watch_of
from byokd.adapters.sql.tables import accounts, replicas, vaults, watches, wrapping_versions
from byokd.domain.identifiers import KeyVersion, WatchId, WrappingVersionId
from byokd.domain.verdict import Probe, Verdict, Watch, WrappingVersion
from byokd.ports import KeyTarget

IN_USE = exists().where(accounts.c.watch == watches.c.id)
"""A watch without accounts may linger until its superseded wraps are erased, but nobody needs to look at it."""

IDENTIFIED = and_(
    watches.c.identity == bindparam("of_identity"),
    watches.c.tenant == bindparam("of_tenant"),
    watches.c.host == bindparam("of_host"),
    watches.c.key_name == bindparam("of_key"),
    watches.c.pinned == bindparam("of_version"),
)
"""The condition that picks the one watch of a target. Made once: it is asked for each account that is registered."""

_WATCHES = select(watches, vaults.c.epoch).join(vaults).order_by(watches.c.id)
_VERSIONS = select(wrapping_versions).join(watches).order_by(wrapping_versions.c.watch, wrapping_versions.c.id)
_DUE = update(watches).where(watches.c.id == bindparam("watch")).values(due_at=bindparam("due"))


def read(
    connection: Connection, condition: ColumnElement[bool], values: Mapping[str, str] | None = None
) -> list[Watch]:
    """Give the watches that meet a condition on their columns, filled with these values, by id."""
    found = connection.execute(_VERSIONS.where(condition), values)
    versions = {watch: list(rows) for watch, rows in groupby(found, lambda row: row.watch)}
    return [watch_of(row, versions[row.id]) for row in connection.execute(_WATCHES.where(condition), values)]


def all_watches(connection: Connection) -> Sequence[Watch]:
    """See `Store.watches`."""
    return read(connection, IN_USE)


def watch(connection: Connection, watch_id: WatchId) -> Watch | None:
    """See `Store.watch`."""
    return next(iter(read(connection, IN_USE & (watches.c.id == watch_id))), None)


def find_watch(connection: Connection, target: KeyTarget) -> Watch | None:
    """See `Store.find_watch`. Gives a lingering watch too: a new account would join it."""
    return next(iter(read(connection, IDENTIFIED, names(target))), None)


def names(target: KeyTarget) -> Mapping[str, str]:
    """Give what fills `IDENTIFIED`."""
    key = target.key
    return {
        "of_identity": target.identity,
        "of_tenant": target.tenant,
        "of_host": key.host,
        "of_key": key.name,
        "of_version": key.version or "",
    }


def claim_vaults(connection: Connection, instance: str) -> int:
    """See `Store.claim_vaults`. Vaults that come later belong to the latest claimant, from epoch 1."""
    claim = connection.scalar(select(func.coalesce(func.max(replicas.c.claim), 0) + 1))
    known = connection.execute(update(replicas).where(replicas.c.name == instance).values(claim=claim))
    if known.rowcount == 0:
        connection.execute(insert(replicas).values(name=instance, claim=claim))
    taken = connection.execute(update(vaults).values(holder=instance, epoch=vaults.c.epoch + 1))
    return taken.rowcount


def record_due(connection: Connection, due: Mapping[WatchId, datetime]) -> None:
    """See `Store.record_due`. Watches that are gone are passed over; revisions stay as they are.

    No epoch guards it: a due time decides nothing, and only the process that has the claim can write one.
    """
    if due:
        connection.execute(_DUE, [{"watch": watch_id, "due": at} for watch_id, at in sorted(due.items())])


def add_version(
    connection: Connection,
    watch_id: WatchId,
    *,
    version: KeyVersion,
    created: datetime | None,
    probe: Probe,
    verdict: Verdict,
    now: datetime,
) -> WrappingVersion:
    """Write a version as the watch's current one; there must be no other current one."""
    result = connection.execute(
        insert(wrapping_versions).values(
            watch=watch_id,
            version=version,
            created=created,
            adopted_at=now,
            is_current=True,
            probe_wrapped=probe.wrapped,
            probe_digest=probe.digest,
            carried=verdict.number,
            **verdict_values(verdict),
        )
    )
    (version_id,) = result.inserted_primary_key or (0,)
    return WrappingVersion(WrappingVersionId(version_id), version, created, probe, verdict)
