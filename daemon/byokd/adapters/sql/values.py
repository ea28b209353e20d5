"""Protected values, and the gate that everything needing an account key goes through."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from byokd.adapters.sql.errors import is_duplicate
from byokd.adapters.sql.ledger import ACCOUNTS, expect, locked_account
from byokd.adapters.sql.rows import AnyRow, account_of, sealed_of, stored_identifier
from byokd.adapters.sql.tables import account_keys, accounts, protected_values, wrapping_versions
from byokd.domain.accounts import Account
from byokd.domain.identifiers import AccountId
from byokd.domain.values import ValueInfo, ValueName, ValueRef
from byokd.domain.verdict import Suspicion
from byokd.domain.vocabulary import Outcome, Reason, ValueKind
from byokd.ports import StaleError, TooManyError
from byokd.records import Gate, ProtectedValue, Standing, WrappedKey

# One statement: a database may give each statement a moment of its own, and the gate must be of one.
_GATE = (
    ACCOUNTS.add_columns(
        account_keys.c.key_identifier,
        account_keys.c.sealed,
        account_keys.c.storage_key,
        account_keys.c.system_key,
        wrapping_versions.c.outcome,
        wrapping_versions.c.reason.label("denied_for"),
        wrapping_versions.c.message.label("verdict_message"),
        wrapping_versions.c.number,
        wrapping_versions.c.suspicion_reason,
        wrapping_versions.c.suspicion_message,
        wrapping_versions.c.suspicion_since,
        wrapping_versions.c.held_since,
    )
    .join(
        account_keys,
        (account_keys.c.account == accounts.c.id) & (account_keys.c.generation == accounts.c.generation),
    )
    .where(accounts.c.id == bindparam("account"))
)
_OUTCOME = (
    select(wrapping_versions.c.outcome).where(wrapping_versions.c.id == bindparam("version")).with_for_update(read=True)
)
_HELD = protected_values.c.account == bindparam("of_account")
_COUNT = select(func.count()).select_from(protected_values).where(_HELD)
_THIS = _HELD & (protected_values.c.kind == bindparam("of_kind")) & (protected_values.c.name == bindparam("of_name"))
_OF_THIS_LIFE = (
    select(protected_values)
    .join(accounts, protected_values.c.account == accounts.c.id)
    .where(_HELD, accounts.c.incarnation == bindparam("incarnation"))
)
_VALUE = _OF_THIS_LIFE.where(_THIS)
_ABOUT = _OF_THIS_LIFE.with_only_columns(
    protected_values.c.kind,
    protected_values.c.name,
    protected_values.c.revision,
    protected_values.c.created_at,
    protected_values.c.updated_at,
).order_by(protected_values.c.kind, protected_values.c.name)
_REVISE = update(protected_values).where(_THIS, protected_values.c.revision == bindparam("known"))


def gate(connection: Connection, account_id: AccountId) -> Gate | None:
    """See `Store.gate`."""
    row = connection.execute(_GATE, {"account": str(account_id)}).one_or_none()
    if row is None:
        return None
    identifier = None if row.key_identifier is None else stored_identifier(row.key_identifier)
    wrapped = WrappedKey(account_id, row.generation, identifier, sealed_of(row))
    return Gate(account_of(row), wrapped, None if row.outcome is None else _standing(row))


def _standing(row: AnyRow) -> Standing:
    suspicion = None
    if row.suspicion_reason is not None:
        suspicion = Suspicion(
            Reason(row.suspicion_reason), row.suspicion_message, row.suspicion_since, held_since=row.held_since
        )
    return Standing(
        outcome=Outcome(row.outcome),
        reason=None if row.denied_for is None else Reason(row.denied_for),
        message=row.verdict_message,
        suspicion=suspicion,
        number=row.number,
    )


def put_value(
    connection: Connection, account: Account, value: ProtectedValue, *, most: int, now: datetime
) -> ValueInfo:
    """See `Store.put_value`."""
    _guard(connection, account)
    written = {"sealed": value.sealed, "storage_key": value.storage_key, "updated_at": now, "revision": value.revision}
    key = _key(account, value.ref)
    if value.revision > 1:
        revised = connection.execute(_REVISE, {**key, "known": value.revision - 1, **written})
        expect(revised.rowcount, 1, what="protected values")
    else:
        if (connection.scalar(_COUNT, {"of_account": str(account.id)}) or 0) >= most:
            _refuse_more(connection, account, value.ref, most)
        _add(connection, account, value.ref, {**written, "created_at": now})
    row = connection.execute(_ABOUT.where(_THIS), {**key, "incarnation": account.incarnation}).one()
    return _info(row)


def _guard(connection: Connection, account: Account) -> None:
    """Hold the account and its verdict as they are until the end of the transaction, if the key may be used."""
    present = locked_account(connection, account.id)
    if present is None or present.incarnation != account.incarnation:
        raise StaleError(f"the account {account.id.name} is not the one that it was")
    if present.damage is not None:
        raise StaleError(f"the account {account.id.name} was found damaged meanwhile")
    if present.wrapping_version is None:
        return
    if connection.scalar(_OUTCOME, {"version": present.wrapping_version}) != str(Outcome.USABLE):
        raise StaleError(f"the key of the account {account.id.name} was denied meanwhile")


def _refuse_more(connection: Connection, account: Account, ref: ValueRef, most: int) -> None:
    """Say why there can be no further value; one that somebody else has just added is not a further one."""
    if connection.execute(_VALUE, {**_key(account, ref), "incarnation": account.incarnation}).first() is not None:
        raise StaleError(f"the value {ref} was added meanwhile")
    raise TooManyError(f"the account {account.id.name} has {most} protected values already")


def _add(connection: Connection, account: Account, ref: ValueRef, written: dict[str, object]) -> None:
    row = {**written, "account": str(account.id), "kind": str(ref.kind), "name": str(ref.name)}
    try:
        connection.execute(insert(protected_values), row)
    except IntegrityError as error:
        if is_duplicate(error):
            raise StaleError(f"the value {ref} was added meanwhile") from error
        raise


def value(connection: Connection, account: Account, ref: ValueRef) -> ProtectedValue | None:
    """See `Store.value`."""
    row = connection.execute(_VALUE, {**_key(account, ref), "incarnation": account.incarnation}).one_or_none()
    return None if row is None else ProtectedValue(ref, row.revision, row.sealed, row.storage_key)


def all_values(connection: Connection, account: Account) -> Sequence[ValueInfo]:
    """See `Store.values`."""
    rows = connection.execute(_ABOUT, {"of_account": str(account.id), "incarnation": account.incarnation})
    return [_info(row) for row in rows]


def remove_value(connection: Connection, account: Account, ref: ValueRef) -> bool:
    """See `Store.remove_value`."""
    present = locked_account(connection, account.id)
    if present is None or present.incarnation != account.incarnation:
        return False
    return connection.execute(delete(protected_values).where(_THIS), _key(account, ref)).rowcount > 0


def erase_values(connection: Connection, account: str) -> None:
    """Erase every protected value of an account."""
    connection.execute(delete(protected_values).where(protected_values.c.account == account))


def _key(account: Account, ref: ValueRef) -> dict[str, object]:
    return {"of_account": str(account.id), "of_kind": str(ref.kind), "of_name": str(ref.name)}


def _info(row: AnyRow) -> ValueInfo:
    ref = ValueRef(ValueKind(row.kind), ValueName(row.name))
    return ValueInfo(ref, row.revision, row.created_at, row.updated_at)
