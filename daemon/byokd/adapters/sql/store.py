"""The Store port, put together from its subjects."""

import asyncio
from collections.abc import Callable, Mapping

from byokd.adapters.sql import schema, service_keys
from byokd.adapters.sql.account_key_store import SqlAccountKeyStore
from byokd.adapters.sql.account_store import SqlAccountStore
from byokd.adapters.sql.brake_store import SqlBrakeStore
from byokd.adapters.sql.census import census
from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.dossier import dossier
from byokd.adapters.sql.event_store import SqlEventStore
from byokd.adapters.sql.requirements import SqlRequirementStore
from byokd.adapters.sql.runners import Runner
from byokd.adapters.sql.sealed_store import SqlSealedStore
from byokd.adapters.sql.value_store import SqlValueStore
from byokd.adapters.sql.watch_store import SqlWatchStore
from byokd.domain.identifiers import AccountId
from byokd.records import Census, Dossier


class SqlStore(
    SqlWatchStore,
    SqlAccountStore,
    SqlAccountKeyStore,
    SqlValueStore,
    SqlEventStore,
    SqlBrakeStore,
    SqlRequirementStore,
    SqlSealedStore,
):
    """What byokd knows, in an SQL database. Obligations and errors of each method: see `byokd.ports.Store`."""

    def __init__(self, runner: Runner, recorder: Recorder, *, open_it: Callable[[], None] = lambda: None) -> None:
        super().__init__(runner, recorder)
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

    async def record_service_key_checks(self, checks: Mapping[tuple[str, str], bytes]) -> None:
        """See `Store.record_service_key_checks`."""
        await self._runner.write(service_keys.record_service_key_checks, checks)

    async def census(self) -> Census:
        """See `Store.census`."""
        return await self._runner.read(census)

    async def dossier(self, account: AccountId, *, most: int) -> Dossier | None:
        """See `Store.dossier`."""
        return await self._runner.read(dossier, account, most=most)
