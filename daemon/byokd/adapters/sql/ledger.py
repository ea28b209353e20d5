"""Changes of accounts: the row, guarded, and the events that tell of it, numbered without gaps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from sqlalchemy import Connection, bindparam, insert, select, update

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.many import insert_many, update_many
from byokd.adapters.sql.outbox import record_account_events
from byokd.adapters.sql.rows import AnyRow, Values, account_of, account_values, state_values, text
from byokd.adapters.sql.tables import account_keys, accounts, watches, wrapping_versions
from byokd.domain.accounts import Account, AccountEvent, JsonValue
from byokd.domain.identifiers import AccountId
from byokd.domain.verdict import Verdict
from byokd.domain.vocabulary import EventType
from byokd.ports import StaleError
from byokd.records import SealedKey

ACCOUNT_COLUMNS = (
    *accounts.c,
    watches.c.identity,
    watches.c.host,
    watches.c.key_name,
    watches.c.pinned,
    wrapping_versions.c.version.label("wrapped_by"),
)
"""What `account_of` reads."""

ACCOUNTS = (
    select(*ACCOUNT_COLUMNS)
    .outerjoin_from(accounts, watches, accounts.c.watch == watches.c.id)
    .outerjoin(wrapping_versions, accounts.c.wrapping_version == wrapping_versions.c.id)
)
"""Accounts of both kinds."""

WATCHED_ACCOUNTS = (
    select(*ACCOUNT_COLUMNS)
    .join_from(wrapping_versions, accounts, accounts.c.wrapping_version == wrapping_versions.c.id)
    .join(watches, accounts.c.watch == watches.c.id)
)
"""Accounts with a customer key, to be found by their wrapping version."""

_SAVE = update(accounts).where(
    accounts.c.id == bindparam("known_id"),
    accounts.c.incarnation == bindparam("known_incarnation"),
    accounts.c.sequence == bindparam("known_sequence"),
)
_LOCK = ACCOUNTS.where(accounts.c.id == bindparam("account")).with_for_update(of=accounts)
_LOCK_ALL = (
    ACCOUNTS.where(accounts.c.id.in_(bindparam("wanted", expanding=True)))
    .order_by(accounts.c.id)
    .with_for_update(of=accounts)
)
_STORE_KEY = insert(account_keys)
_SUPERSEDE_KEY = update(account_keys).where(
    account_keys.c.account == bindparam("of_account"),
    account_keys.c.generation == bindparam("of_generation"),
    account_keys.c.superseded_at.is_(None),
)

_OF_STATE = frozenset({EventType.ACCOUNT_INACCESSIBLE, EventType.ACCOUNT_ACCESSIBLE})


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told of an account: what a verdict made of it, or without one, what was done to it."""

    type: EventType
    verdict: Verdict | None = None
    detail: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """An account before and after, and the events in between; `after` has the sequence of the last of them."""

    before: Account
    after: Account
    events: tuple[AccountEvent, ...]

    @classmethod
    def of(cls, before: Account, after: Account, news: Iterable[News], *, now: datetime) -> Self:
        """Number the news from the account's sequence on; each shows the account as it is afterwards."""
        events: list[AccountEvent] = []
        for item in news:
            after = replace(after, sequence=after.sequence + 1, updated_at=now)
            seen = None if item.type is EventType.ACCOUNT_UNVERIFIED else item.verdict  # there nothing was seen
            event = AccountEvent(
                item.type,
                after,
                previous_state=before.state if item.type in _OF_STATE and after.state != before.state else None,
                detected_by=None if seen is None else seen.detected_by,
                observed_at=None if seen is None else seen.observed_at,
                detail=item.detail,
            )
            events.append(event)
        return cls(before, after, tuple(events))


def repaired(before: Account, after: Account) -> tuple[Account, list[News]]:
    """End the damage of an account whose key has just been proved in its new place, and tell of it."""
    news = [] if before.damage is None else [News(EventType.ACCOUNT_REPAIRED)]
    return replace(after, damage=None), news


def lock(connection: Connection, account: AccountId) -> AnyRow | None:
    """Read an account's row that is about to change; nobody else changes it until the transaction ends."""
    return connection.execute(_LOCK, {"account": str(account)}).one_or_none()


def lock_all(connection: Connection, wanted: Iterable[AccountId]) -> dict[str, AnyRow]:
    """As `lock`, for some hundred accounts at most; give the rows of those that are there, by the text of their ids."""
    rows = connection.execute(_LOCK_ALL, {"wanted": sorted(map(str, wanted))})
    return {row.id: row for row in rows}


def locked_account(connection: Connection, account: AccountId) -> Account | None:
    """As `lock`, for the account alone."""
    row = lock(connection, account)
    return None if row is None else account_of(row)


def commit(
    connection: Connection, changes: Sequence[Change], *, recorder: Recorder, now: datetime, **more: object
) -> None:
    """Write changed accounts and their events, and `more` columns of every one of them.

    Raises:
        StaleError: an account is not as it was before.
    """
    _commit(connection, changes, [{**account_values(change.after), **more} for change in changes], recorder, now=now)


def commit_states(connection: Connection, changes: Sequence[Change], *, recorder: Recorder, now: datetime) -> None:
    """As `commit`, for accounts of which nothing changed but what their verdicts change."""
    _commit(connection, changes, [state_values(change.after) for change in changes], recorder, now=now)


def _commit(
    connection: Connection,
    changes: Sequence[Change],
    values: Sequence[Mapping[str, object]],
    recorder: Recorder,
    *,
    now: datetime,
) -> None:
    if not changes:
        return
    rows: list[Values] = [
        {
            **columns,
            "known_id": str(change.before.id),
            "known_incarnation": change.before.incarnation,
            "known_sequence": change.before.sequence,
        }
        for change, columns in zip(changes, values, strict=True)
    ]
    expect(update_many(connection, _SAVE, rows), len(rows), what="accounts")
    record_account_events(
        connection, (event for change in changes for event in change.events), recorder=recorder, now=now
    )


def expect(touched: int, wanted: int, *, what: str) -> None:
    """Raise StaleError unless a guarded write touched what it was meant for."""
    if touched != wanted:
        raise StaleError(f"{touched} of {wanted} {what} were as expected")


def store_key(connection: Connection, account: Account, sealed: SealedKey, *, now: datetime) -> None:
    """Write the wrapped key of the account's present generation."""
    connection.execute(_STORE_KEY, _key_values(account, sealed, now=now))


def replace_key(connection: Connection, change: Change, sealed: SealedKey, *, now: datetime) -> None:
    """Supersede the wrapped key that the account had before by the one that it has after."""
    replace_keys(connection, [(change, sealed)], now=now)


def replace_keys(connection: Connection, replaced: Sequence[tuple[Change, SealedKey]], *, now: datetime) -> None:
    """As `replace_key`, for many accounts."""
    known: list[Values] = [
        {"of_account": str(change.before.id), "of_generation": change.before.generation, "superseded_at": now}
        for change, _ in replaced
    ]
    expect(update_many(connection, _SUPERSEDE_KEY, known), len(known), what="wrapped keys")
    insert_many(connection, _STORE_KEY, [_key_values(change.after, sealed, now=now) for change, sealed in replaced])


def _key_values(account: Account, sealed: SealedKey, *, now: datetime) -> Values:
    return {
        "account": str(account.id),
        "generation": account.generation,
        "key_identifier": text(account.current),
        "wrapping_version": account.wrapping_version,
        "sealed": sealed.data,
        "storage_key": sealed.storage_key,
        "system_key": sealed.system_key,
        "created_at": now,
    }
