"""The Store port: each method hands one transaction to a runner."""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from byokd.adapters.sql import (
    accounts,
    claims,
    damage,
    failing,
    history,
    outbox,
    rewraps,
    schema,
    service_keys,
    settling,
    values,
    verdicts,
    watches,
)
from byokd.adapters.sql.brake_store import SqlBrakeStore
from byokd.adapters.sql.census import census
from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.dossier import dossier
from byokd.adapters.sql.engine import memory_engine, prepare_file
from byokd.adapters.sql.errors import wrong_schema
from byokd.adapters.sql.requirements import SqlRequirementStore
from byokd.adapters.sql.runners import Database, InlineRunner, Runner, ThreadedRunner, transact
from byokd.adapters.sql.sealed_store import SqlSealedStore
from byokd.adapters.sql.sqlite_file import SqliteFile
from byokd.domain.accounts import Account, AccountSpec
from byokd.domain.chain import Heads
from byokd.domain.decide import Decision
from byokd.domain.identifiers import AccountId, VaultHost, WatchId, WrappingVersionId
from byokd.domain.values import ValueInfo, ValueRef
from byokd.domain.verdict import Watch
from byokd.ports import Auditor, Ids, KeyTarget
from byokd.records import (
    Census,
    Claim,
    Dossier,
    Doubt,
    Failing,
    Gate,
    HeldVault,
    KeyPlacement,
    OutboxRow,
    ProtectedValue,
    Rewrapped,
    RewrapQueue,
    RewrapWork,
    Settled,
    WrappedKey,
)
from byokd.settings import StoreSettings

SETTLE_BATCH = 500
"""Wraps that one transaction erases: others wait no longer for it than for a follower's."""


def store_for(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> "SqlStore":
    """Give the store over the database that `store.url` names without touching it yet; `prepare` opens it."""
    database = database_for(settings)
    runner = ThreadedRunner(database)
    return SqlStore(
        runner, Recorder(ids, auditor), open_it=partial(runner.open, partial(_make_usable, settings, database))
    )


def open_sqlite(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> "SqlStore":
    """Open the database file: made (mode 0600) where it is missing, upgraded where the settings allow it.

    Raises:
        StoreUnavailableError: it cannot be used, another process uses it, or its schema is not this version's.
    """
    return _opened(settings, ids=ids, auditor=auditor)


def open_postgres(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> "SqlStore":
    """Open the PostgreSQL database, which must exist: upgraded where the settings allow it.

    Raises:
        StoreUnavailableError: it cannot be used, another process uses it, or its schema is not this version's.
    """
    return _opened(settings, ids=ids, auditor=auditor)


def sqlite_store(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> "SqlStore":
    """Give the store over a database file without touching it yet; `prepare` opens it."""
    return store_for(settings, ids=ids, auditor=auditor)


def _opened(settings: StoreSettings, *, ids: Ids, auditor: Auditor) -> "SqlStore":
    database = database_for(settings)
    runner = ThreadedRunner(database)
    runner.open(partial(_make_usable, settings, database))
    return SqlStore(runner, Recorder(ids, auditor))


def database_for(settings: StoreSettings) -> Database:
    """Give the database that `store.url` names; nothing is opened yet."""
    if (path := settings.path) is not None:
        return SqliteFile(path, busy_timeout=settings.busy_timeout)
    # The driver is an extra: who keeps a file needs none.
    from byokd.adapters.sql.postgres import PostgresDatabase  # noqa: PLC0415

    return PostgresDatabase(settings)


def _make_usable(settings: StoreSettings, database: Database) -> None:
    if settings.path is not None:
        prepare_file(settings.path)
    database.take()
    if settings.upgrade_at_start:
        schema.upgrade(database.writer)
    found = schema.status(database.writer)
    if found.current != found.head:
        raise wrong_schema(found.current, found.head)


def open_inline(ids: Ids, auditor: Auditor) -> "SqlStore":
    """Open an empty database in memory that runs in the caller's thread, without giving way: for virtual time."""
    runner = InlineRunner(memory_engine())
    transact(runner.writer, partial(schema.create, identity=str(uuid.uuid4())))
    return SqlStore(runner, Recorder(ids, auditor))


def upgrade_database(settings: StoreSettings) -> schema.SchemaStatus:
    """Bring the schema up to date; give what it was before.

    Raises:
        StoreUnavailableError: the database cannot be used, a daemon uses it, or its schema is of a newer version.
    """
    with _offline(settings) as database:
        database.take()
        found = schema.status(database.writer)
        schema.upgrade(database.writer)
        return found


def database_status(settings: StoreSettings) -> schema.SchemaStatus:
    """Tell the schema of the database, also while a daemon uses it.

    Raises:
        StoreUnavailableError: the database cannot be used.
    """
    with _offline(settings) as database:
        return schema.status(database.reader)


@contextmanager
def _offline(settings: StoreSettings) -> Iterator[Database]:
    """Give the database for a moment; a file is made where it is missing."""
    if settings.path is not None:
        prepare_file(settings.path)
    database = database_for(settings)
    try:
        yield database
    finally:
        database.release()


class SqlStore(SqlSealedStore, SqlBrakeStore, SqlRequirementStore):
    """What byokd knows, in an SQL database. Obligations and errors of each method: see `byokd.ports.Store`."""

    def __init__(self, runner: Runner, recorder: Recorder, *, open_it: Callable[[], None] = lambda: None) -> None:
        super().__init__(runner)
        self._recorder = recorder
        self._open_it = open_it

    async def prepare(self) -> None:
        """Make the database if it is missing, and its schema this version's, as far as the settings allow.

        Raises:
            StoreUnavailableError: it cannot be used, another process uses it, or its schema is not this version's;
                may be tried again.
        """
        await asyncio.to_thread(self._open_it)

    async def close(self) -> None:
        """Let running transactions end and close the database; every later call raises StoreUnavailableError."""
        await self._runner.close()

    async def ping(self) -> None:
        """See `Store.ping`. The file must still be the one that was opened."""
        await self._runner.confirm()
        await self._runner.write(schema.ping)

    async def identity(self) -> str:
        """See `Store.identity`."""
        return await self._runner.read(schema.identity)

    async def claim_vaults(self, instance: str) -> int:
        """See `Store.claim_vaults`."""
        return await self._runner.write(watches.claim_vaults, instance)

    async def watches(self) -> Sequence[Watch]:
        """See `Store.watches`."""
        return await self._runner.read(watches.all_watches)

    async def watch(self, watch: WatchId) -> Watch | None:
        """See `Store.watch`."""
        return await self._runner.read(watches.watch, watch)

    async def find_watch(self, target: KeyTarget) -> Watch | None:
        """See `Store.find_watch`."""
        return await self._runner.read(watches.find_watch, target)

    async def commit_decision(
        self, watch: Watch, decision: Decision, *, now: datetime, brake_revision: int | None = None
    ) -> Watch:
        """See `Store.commit_decision`."""
        return await self._runner.write(
            verdicts.commit_decision,
            watch,
            decision,
            brake_revision=brake_revision,
            recorder=self._recorder,
            now=now,
        )

    async def record_due(self, due: Mapping[WatchId, datetime]) -> None:
        """See `Store.record_due`."""
        await self._runner.write(watches.record_due, due)

    async def failing_vaults(self) -> Mapping[VaultHost, Failing]:
        """See `Store.failing_vaults`."""
        return await self._runner.read(failing.failing_vaults)

    async def record_failing(self, found: Mapping[HeldVault, Failing | None]) -> None:
        """See `Store.record_failing`."""
        await self._runner.write(failing.record_failing, found)

    async def follow(self, *, limit: int, now: datetime) -> int:
        """See `Store.follow`."""
        return await self._runner.write(verdicts.follow_verdicts, limit=limit, recorder=self._recorder, now=now)

    async def rewrap_queues(self, *, now: datetime) -> Sequence[RewrapQueue]:
        """See `Store.rewrap_queues`."""
        return await self._runner.read(rewraps.rewrap_queues, now=now)

    async def rewrap_work(self, *, limit: int, now: datetime, watch: WatchId | None = None) -> Sequence[RewrapWork]:
        """See `Store.rewrap_work`."""
        return await self._runner.read(rewraps.rewrap_work, limit=limit, now=now, watch=watch)

    async def commit_rewraps(self, moved: Sequence[Rewrapped], *, now: datetime) -> frozenset[AccountId]:
        """See `Store.commit_rewraps`."""
        return await self._runner.write(rewraps.commit_rewraps, moved, recorder=self._recorder, now=now)

    async def rewrap_failed(self, work: RewrapWork, message: str, *, now: datetime, retry_at: datetime) -> None:
        """See `Store.rewrap_failed`."""
        await self._runner.write(
            rewraps.rewrap_failed, work, message, recorder=self._recorder, now=now, retry_at=retry_at
        )

    async def account_damaged(
        self, account: AccountId, wrapped: WrappedKey | None, message: str, *, now: datetime
    ) -> bool:
        """See `Store.account_damaged`."""
        return await self._runner.write(
            damage.account_damaged, account, wrapped, message, recorder=self._recorder, now=now
        )

    async def account_repaired(self, wrapped: WrappedKey, *, now: datetime) -> bool:
        """See `Store.account_repaired`."""
        return await self._runner.write(damage.account_repaired, wrapped, recorder=self._recorder, now=now)

    async def settle(self, *, before: datetime, now: datetime) -> Settled:
        """See `Store.settle`. Then what was erased is gone from the files too; while a backup reads them, next time."""
        settled, last = Settled(0, frozenset()), SETTLE_BATCH
        while last == SETTLE_BATCH:
            part = await self._runner.write(
                settling.settle, before=before, limit=SETTLE_BATCH, recorder=self._recorder, now=now
            )
            settled, last = Settled(settled.erased + part.erased, settled.watches | part.watches), part.erased
        await self._runner.scrub()
        return settled

    async def account(self, account: AccountId) -> Account | None:
        """See `Store.account`."""
        return await self._runner.read(accounts.account, account)

    async def accounts(self, *, name: str | None = None) -> Sequence[Account]:
        """See `Store.accounts`."""
        return await self._runner.read(accounts.all_accounts, name=name)

    async def doubts(self) -> Mapping[WrappingVersionId, Doubt]:
        """See `Store.doubts`."""
        return await self._runner.read(verdicts.doubts)

    async def wrapped_key(self, account: AccountId) -> WrappedKey | None:
        """See `Store.wrapped_key`."""
        return await self._runner.read(accounts.wrapped_key, account)

    async def may_claim(self, spec: AccountSpec, claim: Claim) -> bool:
        """See `Store.may_claim`."""
        return await self._runner.read(claims.may_claim, spec, claim)

    async def create_account(
        self,
        spec: AccountSpec,
        placement: KeyPlacement,
        *,
        incarnation: str,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """See `Store.create_account`."""
        return await self._runner.write(
            accounts.create_account,
            spec,
            placement,
            incarnation=incarnation,
            claim=claim,
            recorder=self._recorder,
            now=now,
        )

    async def update_account(
        self,
        account: Account,
        spec: AccountSpec,
        placement: KeyPlacement | None,
        *,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """See `Store.update_account`."""
        return await self._runner.write(
            accounts.update_account, account, spec, placement, claim=claim, recorder=self._recorder, now=now
        )

    async def repair_account(
        self,
        account: Account,
        spec: AccountSpec,
        placement: KeyPlacement,
        *,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """See `Store.repair_account`."""
        return await self._runner.write(
            accounts.repair_account, account, spec, placement, claim=claim, recorder=self._recorder, now=now
        )

    async def delete_account(self, account: AccountId, *, now: datetime) -> bool:
        """See `Store.delete_account`. Wraps and values are gone from the files when this returns, as after `settle`."""
        deleted = await self._runner.write(accounts.delete_account, account, recorder=self._recorder, now=now)
        if deleted:
            await self._runner.scrub()
        return deleted

    async def gate(self, account: AccountId) -> Gate | None:
        """See `Store.gate`."""
        return await self._runner.read(values.gate, account)

    async def put_value(self, account: Account, value: ProtectedValue, *, most: int, now: datetime) -> ValueInfo:
        """See `Store.put_value`. The revision before is gone from the files when this returns, as after `settle`."""
        written = await self._runner.write(values.put_value, account, value, most=most, now=now)
        if written.revision > 1:
            await self._runner.scrub()
        return written

    async def value(self, account: Account, ref: ValueRef) -> ProtectedValue | None:
        """See `Store.value`."""
        return await self._runner.read(values.value, account, ref)

    async def values(self, account: Account) -> Sequence[ValueInfo]:
        """See `Store.values`."""
        return await self._runner.read(values.all_values, account)

    async def remove_value(self, account: Account, ref: ValueRef) -> bool:
        """See `Store.remove_value`. It is gone from the files when this returns, as after `settle`."""
        removed = await self._runner.write(values.remove_value, account, ref)
        if removed:
            await self._runner.scrub()
        return removed

    async def unpublished(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        """See `Store.unpublished`."""
        return await self._runner.read(outbox.unpublished, after=after, limit=limit)

    async def mark_published(self, numbers: Sequence[int], *, now: datetime) -> None:
        """See `Store.mark_published`."""
        await self._runner.write(outbox.mark_published, numbers, now=now)

    async def contiguous(self) -> int:
        """See `Store.contiguous`."""
        return await self._runner.read(outbox.contiguous)

    async def resend(self, *, after: int | None, since: datetime) -> int:
        """See `Store.resend`."""
        return await self._runner.write(outbox.resend, after=after, since=since)

    async def forget(self, *, before: datetime, limit: int) -> int:
        """See `Store.forget`."""
        return await self._runner.write(outbox.forget, before=before, limit=limit, recorder=self._recorder)

    async def history(self, *, after: int, limit: int, stream: str | None = None) -> Sequence[OutboxRow]:
        """See `Store.history`."""
        return await self._runner.read(history.history, after=after, limit=limit, stream=stream)

    async def number_before(self, since: datetime) -> int:
        """See `Store.number_before`."""
        return await self._runner.read(history.number_before, since)

    async def heads(self) -> Heads:
        """See `Store.heads`."""
        return await self._runner.read(history.heads)

    async def untold_since(self) -> datetime | None:
        """See `Store.untold_since`."""
        return await self._runner.read(history.untold_since)

    async def record_heads(self, heads: Heads, *, now: datetime) -> None:
        """See `Store.record_heads`."""
        await self._runner.write(history.record_heads, heads, recorder=self._recorder, now=now)

    async def record_service_key_checks(self, checks: Mapping[tuple[str, str], bytes]) -> None:
        """See `Store.record_service_key_checks`."""
        await self._runner.write(service_keys.record_service_key_checks, checks)

    async def census(self) -> Census:
        """See `Store.census`."""
        return await self._runner.read(census)

    async def dossier(self, account: AccountId, *, most: int) -> Dossier | None:
        """See `Store.dossier`."""
        return await self._runner.read(dossier, account, most=most)
