"""Damaged accounts: their own record does not open, whatever the verdict of their key says."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.ledger import Change, News, commit, lock, repaired
from byokd.adapters.sql.rows import AnyRow, account_of
from byokd.adapters.sql.tables import account_keys
from byokd.domain.accounts import Damage
from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import EventType
from byokd.records import WrappedKey

_PRESENT = select(account_keys.c.sealed).where(
    account_keys.c.account == bindparam("account"), account_keys.c.generation == bindparam("generation")
)


def account_damaged(
    connection: Connection,
    account: AccountId,
    wrapped: WrappedKey | None,
    message: str,
    *,
    recorder: Recorder,
    now: datetime,
) -> bool:
    """See `Store.account_damaged`. The event's detail: `damage`, in words."""
    row = lock(connection, account)
    if row is None or row.damaged_since is not None or not _is_present(connection, row, wrapped):
        return False
    before = account_of(row)
    after = replace(before, damage=Damage(now, message))
    change = Change.of(before, after, [News(EventType.ACCOUNT_DAMAGED, detail={"damage": message})], now=now)
    commit(connection, [change], recorder=recorder, now=now)
    return True


def account_repaired(connection: Connection, wrapped: WrappedKey, *, recorder: Recorder, now: datetime) -> bool:
    """See `Store.account_repaired`."""
    row = lock(connection, wrapped.account)
    if row is None or row.damaged_since is None or not _is_present(connection, row, wrapped):
        return False
    before = account_of(row)
    after, news = repaired(before, before)
    commit(connection, [Change.of(before, after, news, now=now)], recorder=recorder, now=now)
    return True


def _is_present(connection: Connection, account: AnyRow, wrapped: WrappedKey | None) -> bool:
    """Whether these very bytes are what the account's present key is stored as; with None, whether there are none."""
    sealed = connection.scalar(_PRESENT, {"account": account.id, "generation": account.generation})
    if wrapped is None:
        return sealed is None
    return wrapped.generation == account.generation and sealed == wrapped.sealed.data
