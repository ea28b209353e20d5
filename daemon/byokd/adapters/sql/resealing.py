"""Sealing anew: the order to do so, and the exchange of one seal for another of the same."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Update, bindparam, insert, select, update

from byokd.adapters.sql.ledger import expect
from byokd.adapters.sql.rows import AnyRow, Values
from byokd.adapters.sql.tables import account_keys, protected_values, rotations
from byokd.records import Resealed, Rotation, WrappedKey

_KEY = update(account_keys).where(
    account_keys.c.account == bindparam("known_account"),
    account_keys.c.generation == bindparam("known_generation"),
    account_keys.c.sealed == bindparam("known_sealed"),
    account_keys.c.storage_key == bindparam("known_storage_key"),
    account_keys.c.system_key.is_not_distinct_from(bindparam("known_system_key")),
)
_VALUE = update(protected_values).where(
    protected_values.c.account == bindparam("known_account"),
    protected_values.c.kind == bindparam("known_kind"),
    protected_values.c.name == bindparam("known_name"),
    protected_values.c.revision == bindparam("known_revision"),
    protected_values.c.sealed == bindparam("known_sealed"),
    protected_values.c.storage_key == bindparam("known_storage_key"),
)
_LAST = select(rotations).order_by(rotations.c.number.desc()).limit(1)


def commit_reseal(connection: Connection, resealed: Sequence[Resealed]) -> None:
    """See `SealedStore.commit_reseal`."""
    keys: list[Values] = []
    values: list[Values] = []
    for one in resealed:
        before, after = one.before, one.after
        known: Values = {"known_account": str(before.account), "sealed": after.data, "storage_key": after.storage_key}
        if isinstance(before, WrappedKey):
            keys.append(
                known
                | {
                    "known_generation": before.generation,
                    "known_sealed": before.sealed.data,
                    "known_storage_key": before.sealed.storage_key,
                    "known_system_key": before.sealed.system_key,
                    "system_key": after.system_key,
                }
            )
        else:
            values.append(
                known
                | {
                    "known_kind": before.kind,
                    "known_name": before.name,
                    "known_revision": before.revision,
                    "known_sealed": before.sealed,
                    "known_storage_key": before.storage_key,
                }
            )
    _exchange(connection, _KEY, keys, what="wrapped keys")
    _exchange(connection, _VALUE, values, what="protected values")


def _exchange(connection: Connection, statement: Update, rows: list[Values], *, what: str) -> None:
    if rows:
        expect(connection.execute(statement, rows).rowcount, len(rows), what=what)


def rotation(connection: Connection) -> Rotation | None:
    """See `SealedStore.rotation`."""
    row = connection.execute(_LAST).one_or_none()
    return None if row is None else _rotation_of(row)


def begin_rotation(connection: Connection, *, storage_key: str, system_key: str, now: datetime) -> Rotation:
    """See `SealedStore.begin_rotation`."""
    last = rotation(connection)
    if last is not None and last.ended_at is None and (last.storage_key, last.system_key) == (storage_key, system_key):
        return last
    ordered: dict[str, Any] = {"storage_key": storage_key, "system_key": system_key, "begun_at": now, "stuck": 0}
    result = connection.execute(insert(rotations).values(**ordered))
    (number,) = result.inserted_primary_key or (0,)
    return Rotation(number, storage_key, system_key, now, None, 0)


def end_rotation(connection: Connection, known: Rotation, *, stuck: int, now: datetime) -> None:
    """See `SealedStore.end_rotation`."""
    ended = update(rotations).where(rotations.c.number == known.number, rotations.c.ended_at.is_(None))
    expect(connection.execute(ended.values(ended_at=now, stuck=stuck)).rowcount, 1, what="rotations")


def _rotation_of(row: AnyRow) -> Rotation:
    return Rotation(row.number, row.storage_key, row.system_key, row.begun_at, row.ended_at, row.stuck)
