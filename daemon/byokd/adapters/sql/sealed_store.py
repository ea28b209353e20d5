"""The SealedStore port: each method hands one transaction to a runner."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from byokd.adapters.sql import resealing, seals, service_keys
from byokd.adapters.sql.runners import Runner
from byokd.domain.identifiers import AccountId
from byokd.records import Resealed, Rotation, SealedValue, SealUse, StoredKey, WrappedKey


class SqlSealedStore:
    """What is sealed, in an SQL database. Obligations and errors of each method: see `byokd.ports.SealedStore`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def service_key_checks(self) -> Mapping[tuple[str, str], bytes]:
        """See `SealedStore.service_key_checks`."""
        return await self._runner.read(service_keys.service_key_checks)

    async def seal_uses(self) -> Sequence[SealUse]:
        """See `SealedStore.seal_uses`."""
        return await self._runner.read(seals.seal_uses)

    async def stored_keys(self, *, after: WrappedKey | None, limit: int) -> Sequence[StoredKey]:
        """See `SealedStore.stored_keys`."""
        return await self._runner.read(seals.stored_keys, after=after, limit=limit)

    async def accounts_without_key(self, *, after: AccountId | None, limit: int) -> Sequence[AccountId]:
        """See `SealedStore.accounts_without_key`."""
        return await self._runner.read(seals.accounts_without_key, after=after, limit=limit)

    async def values_of(self, account: AccountId, *, after: SealedValue | None, limit: int) -> Sequence[SealedValue]:
        """See `SealedStore.values_of`."""
        return await self._runner.read(seals.values_of, account, after=after, limit=limit)

    async def values_among(
        self, accounts: Sequence[AccountId], *, after: SealedValue | None, limit: int
    ) -> Sequence[SealedValue]:
        """See `SealedStore.values_among`."""
        return await self._runner.read(seals.values_among, accounts, after=after, limit=limit)

    async def keys_sealed_by(self, use: SealUse, *, after: WrappedKey | None, limit: int) -> Sequence[WrappedKey]:
        """See `SealedStore.keys_sealed_by`."""
        return await self._runner.read(seals.keys_sealed_by, use, after=after, limit=limit)

    async def values_sealed_by(self, use: SealUse, *, after: SealedValue | None, limit: int) -> Sequence[SealedValue]:
        """See `SealedStore.values_sealed_by`."""
        return await self._runner.read(seals.values_sealed_by, use, after=after, limit=limit)

    async def commit_reseal(self, resealed: Sequence[Resealed]) -> None:
        """See `SealedStore.commit_reseal`."""
        await self._runner.write(resealing.commit_reseal, resealed)

    async def rotation(self) -> Rotation | None:
        """See `SealedStore.rotation`."""
        return await self._runner.read(resealing.rotation)

    async def begin_rotation(self, *, storage_key: str, system_key: str, now: datetime) -> Rotation:
        """See `SealedStore.begin_rotation`."""
        return await self._runner.write(
            resealing.begin_rotation, storage_key=storage_key, system_key=system_key, now=now
        )

    async def end_rotation(self, rotation: Rotation, *, stuck: int, now: datetime) -> None:
        """See `SealedStore.end_rotation`. While a backup reads the files, what was replaced goes with a later scrub."""
        await self._runner.write(resealing.end_rotation, rotation, stuck=stuck, now=now)
        await self._runner.scrub()
