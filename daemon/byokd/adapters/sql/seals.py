"""What is sealed, and under which keys: looked at page by page."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, Select, exists, func, select, tuple_

from byokd.adapters.sql.rows import AnyRow, wrapped_key_of
from byokd.adapters.sql.tables import account_keys, accounts, protected_values, watches, wrapping_versions
from byokd.domain.identifiers import AccountId, IdentityName, TenantId
from byokd.records import SealedValue, SealUse, StoredKey, WrappedKey

_KEY = (account_keys.c.account, account_keys.c.generation)
_VALUE = (protected_values.c.account, protected_values.c.kind, protected_values.c.name)
_COUNTED_KEYS = select(account_keys.c.storage_key, account_keys.c.system_key, func.count()).group_by(
    account_keys.c.storage_key, account_keys.c.system_key
)
_COUNTED_VALUES = select(protected_values.c.storage_key, func.count()).group_by(protected_values.c.storage_key)
# A superseded wrap may be of another key and identity than its account has now; its version's watch stays as long.
_STORED_KEYS = (
    select(account_keys, accounts.c.tenant, accounts.c.damaged_since, watches.c.identity)
    .join(accounts, account_keys.c.account == accounts.c.id)
    .outerjoin(wrapping_versions, account_keys.c.wrapping_version == wrapping_versions.c.id)
    .outerjoin(watches, wrapping_versions.c.watch == watches.c.id)
)
_WITHOUT_KEY = select(accounts.c.id).where(
    ~exists().where(account_keys.c.account == accounts.c.id, account_keys.c.generation == accounts.c.generation)
)


def seal_uses(connection: Connection) -> Sequence[SealUse]:
    """See `SealedStore.seal_uses`. Indexes alone are read."""
    keys: dict[tuple[str, str | None], int] = defaultdict(int)
    for storage_key, system_key, number in connection.execute(_COUNTED_KEYS):
        keys[storage_key, system_key] = number
    values = {row.storage_key: row[1] for row in connection.execute(_COUNTED_VALUES)}
    for storage_key in values:
        keys[storage_key, None] += 0
    return [
        SealUse(storage_key, system_key, number, values.get(storage_key, 0) if system_key is None else 0)
        for (storage_key, system_key), number in sorted(keys.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    ]


def stored_keys(connection: Connection, *, after: WrappedKey | None, limit: int) -> Sequence[StoredKey]:
    """See `SealedStore.stored_keys`."""
    return [
        StoredKey(
            wrapped_key_of(row),
            TenantId(row.tenant),
            None if row.identity is None else IdentityName(row.identity),
            superseded=row.superseded_at is not None,
            damaged=row.damaged_since is not None,
        )
        for row in connection.execute(_page_of_keys(_STORED_KEYS, after, limit))
    ]


def accounts_without_key(connection: Connection, *, after: AccountId | None, limit: int) -> Sequence[AccountId]:
    """See `SealedStore.accounts_without_key`."""
    wanted = _WITHOUT_KEY if after is None else _WITHOUT_KEY.where(accounts.c.id > str(after))
    return [AccountId.parse(found) for found in connection.scalars(wanted.order_by(accounts.c.id).limit(limit))]


def keys_sealed_by(
    connection: Connection, use: SealUse, *, after: WrappedKey | None, limit: int
) -> Sequence[WrappedKey]:
    """See `SealedStore.keys_sealed_by`."""
    exactly = select(account_keys).where(
        account_keys.c.storage_key == use.storage_key,
        account_keys.c.system_key.is_(None) if use.system_key is None else account_keys.c.system_key == use.system_key,
    )
    return [wrapped_key_of(row) for row in connection.execute(_page_of_keys(exactly, after, limit))]


def values_sealed_by(
    connection: Connection, use: SealUse, *, after: SealedValue | None, limit: int
) -> Sequence[SealedValue]:
    """See `SealedStore.values_sealed_by`."""
    if use.system_key is not None:
        return []
    under = select(protected_values).where(protected_values.c.storage_key == use.storage_key)
    return [_value_of(row) for row in connection.execute(_page_of_values(under, after, limit))]


def values_of(
    connection: Connection, account: AccountId, *, after: SealedValue | None, limit: int
) -> Sequence[SealedValue]:
    """See `SealedStore.values_of`."""
    return values_among(connection, [account], after=after, limit=limit)


def values_among(
    connection: Connection, wanted: Sequence[AccountId], *, after: SealedValue | None, limit: int
) -> Sequence[SealedValue]:
    """See `SealedStore.values_among`."""
    theirs = select(protected_values).where(protected_values.c.account.in_([str(account) for account in wanted]))
    return [_value_of(row) for row in connection.execute(_page_of_values(theirs, after, limit))]


def _page_of_keys(
    wanted: Select[*tuple[object, ...]], after: WrappedKey | None, limit: int
) -> Select[*tuple[object, ...]]:
    if after is not None:
        wanted = wanted.where(tuple_(*_KEY) > tuple_(str(after.account), after.generation))
    return wanted.order_by(*_KEY).limit(limit)


def _page_of_values(
    wanted: Select[*tuple[object, ...]], after: SealedValue | None, limit: int
) -> Select[*tuple[object, ...]]:
    if after is not None:
        wanted = wanted.where(tuple_(*_VALUE) > tuple_(str(after.account), after.kind, after.name))
    return wanted.order_by(*_VALUE).limit(limit)


def _value_of(row: AnyRow) -> SealedValue:
    return SealedValue(AccountId.parse(row.account), row.kind, row.name, row.revision, row.sealed, row.storage_key)
