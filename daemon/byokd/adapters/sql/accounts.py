"""Accounts: reading, creating, changing and erasing them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.claims import release_claims, take_claim
from byokd.adapters.sql.errors import is_duplicate
from byokd.adapters.sql.ledger import (
    ACCOUNTS,
    Change,
    News,
    commit,
    expect,
    locked_account,
    repaired,
    replace_key,
    store_key,
)
from byokd.adapters.sql.outbox import record_account_events
from byokd.adapters.sql.placing import Place, place
from byokd.adapters.sql.rows import account_of, account_values, wrapped_key_of
from byokd.adapters.sql.settling import erase_wraps, release
from byokd.adapters.sql.tables import account_keys, accounts
from byokd.adapters.sql.values import erase_values
from byokd.domain.accounts import Account, AccountSpec, follow, state_message
from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import EventType, State
from byokd.ports import ExistsError, StaleError
from byokd.records import Claim, KeyPlacement, WrappedKey

_ACCOUNT = ACCOUNTS.where(accounts.c.id == bindparam("account"))
_IS_THERE = select(accounts.c.id).where(accounts.c.id == bindparam("account"))
_WRAPPED_KEY = select(account_keys).where(
    account_keys.c.account == bindparam("account"), account_keys.c.superseded_at.is_(None)
)


def account(connection: Connection, account_id: AccountId) -> Account | None:
    """See `Store.account`."""
    row = connection.execute(_ACCOUNT, {"account": str(account_id)}).one_or_none()
    return None if row is None else account_of(row)


def all_accounts(connection: Connection, *, name: str | None) -> Sequence[Account]:
    """See `Store.accounts`. In the order of the text of their ids."""
    wanted = ACCOUNTS if name is None else ACCOUNTS.where(accounts.c.name == name.lower())
    return [account_of(row) for row in connection.execute(wanted.order_by(accounts.c.id))]


def wrapped_key(connection: Connection, account_id: AccountId) -> WrappedKey | None:
    """See `Store.wrapped_key`."""
    row = connection.execute(_WRAPPED_KEY, {"account": str(account_id)}).one_or_none()
    if row is None:
        return None
    return wrapped_key_of(row)


def create_account(
    connection: Connection,
    spec: AccountSpec,
    placement: KeyPlacement,
    *,
    incarnation: str,
    claim: Claim,
    recorder: Recorder,
    now: datetime,
) -> Account:
    """See `Store.create_account`. Where the stored verdict says Denied, `inaccessible` follows at once."""
    if connection.scalar(_IS_THERE, {"account": str(spec.id)}) is not None:
        raise ExistsError(f"the account {spec.id.name} is there already")
    take_claim(connection, spec, claim)
    spot = place(connection, spec, placement, now=now)
    blank = Account(
        spec=spec,
        incarnation=incarnation,
        sequence=0,
        generation=1,
        watch=spot.watch,
        wrapping_version=spot.version,
        current=spot.identifier,
        state=State.ACCESSIBLE,
        reason=None,
        message=state_message(spot.verdict),
        since=now,
        unverified_since=None,
        followed=0,
        created_at=now,
        updated_at=now,
    )
    after, news = _judged(blank, spot, now=now)
    change = Change.of(blank, after, [News(EventType.ACCOUNT_CREATED), *news], now=now)
    _insert(connection, change.after)
    store_key(connection, change.after, placement.sealed, now=now)
    record_account_events(connection, change.events, recorder=recorder, now=now)
    return change.after


def _insert(connection: Connection, account: Account) -> None:
    row = {
        "id": str(account.id),
        "name": account.id.name,
        "tenant": account.spec.tenant,
        "incarnation": account.incarnation,
        "created_at": account.created_at,
        "rewrap_attempts": 0,
        **account_values(account),
    }
    try:
        connection.execute(insert(accounts), row)
    except IntegrityError as error:
        if is_duplicate(error):
            raise ExistsError(f"the account {account.id.name} was made meanwhile") from error
        raise


def _moved(account: Account, spot: Place) -> Account:
    return replace(
        account,
        watch=spot.watch,
        wrapping_version=spot.version,
        current=spot.identifier,
        generation=account.generation + 1,
    )


def _judged(account: Account, spot: Place, *, now: datetime) -> tuple[Account, list[News]]:
    """Give the account in its new place under the verdict found there, and what there is to tell of that."""
    after, types = follow(account, spot.verdict)
    if (after.state, after.reason) != (account.state, account.reason):
        after = replace(after, since=now)  # the verdict may be much older: it was that of others until now
    if spot.version is None:
        after = replace(after, followed=0)
    return after, [News(type_, spot.verdict) for type_ in types]


def update_account(
    connection: Connection,
    known: Account,
    spec: AccountSpec,
    placement: KeyPlacement | None,
    *,
    claim: Claim,
    recorder: Recorder,
    now: datetime,
) -> Account:
    """See `Store.update_account`. `updated` comes first, then what a new place does to the state.

    Raises:
        ValueError: another account or tenant, or another customer key without a placement.
    """
    if (spec.id, spec.tenant) != (known.spec.id, known.spec.tenant):
        raise ValueError("an account's id and tenant never change")
    if placement is None and spec.customer_key != known.spec.customer_key:
        raise ValueError("another customer key needs a newly wrapped account key")
    before = _unchanged(connection, known)
    return _rewrite(connection, before, spec, placement, claim=claim, recorder=recorder, now=now)


def repair_account(
    connection: Connection,
    known: Account,
    spec: AccountSpec,
    placement: KeyPlacement,
    *,
    claim: Claim,
    recorder: Recorder,
    now: datetime,
) -> Account:
    """See `Store.repair_account`. Only here does the tenant of an account change.

    Raises:
        ValueError: another account, or no customer key.
    """
    if spec.id != known.spec.id or spec.customer_key is None:
        raise ValueError("a repair leaves the account its id, and a customer key")
    before = _unchanged(connection, known)
    if before.state is not State.INACCESSIBLE:
        raise StaleError(f"the account {known.id.name} is accessible again")
    return _rewrite(connection, before, spec, placement, claim=claim, recorder=recorder, now=now)


def _unchanged(connection: Connection, known: Account) -> Account:
    before = locked_account(connection, known.id)
    if before is None or (before.incarnation, before.sequence) != (known.incarnation, known.sequence):
        raise StaleError(f"the account {known.id.name} was changed meanwhile")
    return before


def _rewrite(
    connection: Connection,
    before: Account,
    spec: AccountSpec,
    placement: KeyPlacement | None,
    *,
    claim: Claim,
    recorder: Recorder,
    now: datetime,
) -> Account:
    after = replace(before, spec=spec)
    if placement is not None or spec.identity != before.spec.identity:
        take_claim(connection, spec, claim)
    news: list[News] = []
    if placement is not None:
        spot = place(connection, spec, placement, now=now)
        after, news = _judged(_moved(after, spot), spot, now=now)
        after, mended = repaired(before, after)
        news = [*mended, *news]
    updated = News(EventType.ACCOUNT_UPDATED, detail={"changed": ",".join(_changed(before.spec, spec, placement))})
    change = Change.of(before, after, [updated, *news], now=now)
    if placement is None:
        commit(connection, [change], recorder=recorder, now=now)
    else:
        moved: dict[str, object] = {"rewrap_attempts": 0, "rewrap_due_at": None, "tenant": str(spec.tenant)}
        commit(connection, [change], recorder=recorder, now=now, **moved)
        replace_key(connection, change, placement.sealed, now=now)
    if spec.identity != before.spec.identity:
        release_claims(connection, [before.spec.identity])
    return change.after


def _changed(before: AccountSpec, after: AccountSpec, placement: KeyPlacement | None) -> list[str]:
    both = before.identity is not None and after.identity is not None
    differs = {
        "location": before.location != after.location,
        "encryption": placement is not None,
        "identity": before.identity != after.identity and (both or placement is None),
        "tenant": before.tenant != after.tenant,
    }
    return [name for name, differing in differs.items() if differing]


def delete_account(connection: Connection, account_id: AccountId, *, recorder: Recorder, now: datetime) -> bool:
    """See `Store.delete_account`."""
    before = locked_account(connection, account_id)
    if before is None:
        return False
    change = Change.of(before, before, [News(EventType.ACCOUNT_DELETED)], now=now)
    record_account_events(connection, change.events, recorder=recorder, now=now)
    erase_values(connection, str(account_id))
    touched = erase_wraps(connection, str(account_id))
    gone = connection.execute(
        delete(accounts).where(accounts.c.id == str(account_id), accounts.c.sequence == before.sequence)
    )
    expect(gone.rowcount, 1, what="accounts")
    release(connection, touched, recorder=recorder, now=now)
    release_claims(connection, [before.spec.identity])
    return True
