"""The ValueStore port: each method hands one transaction to a runner."""

from collections.abc import Sequence
from datetime import datetime

from byokd.adapters.sql import values
from byokd.adapters.sql.part import StorePart
from byokd.domain.accounts import Account
from byokd.domain.identifiers import AccountId
from byokd.domain.values import ValueInfo, ValueRef
from byokd.records import Gate, ProtectedValue


class SqlValueStore(StorePart):
    """Protected values, in an SQL database. Obligations and errors of each method: see `ValueStore`."""

    async def gate(self, account: AccountId) -> Gate | None:
        """See `ValueStore.gate`."""
        return await self._runner.read(values.gate, account)

    async def put_value(self, account: Account, value: ProtectedValue, *, most: int, now: datetime) -> ValueInfo:
        """See `ValueStore.put_value`.

        The revision before is gone from the files when this returns, as after `settle`.
        """
        written = await self._runner.write(values.put_value, account, value, most=most, now=now)
        if written.revision > 1:
            await self._runner.scrub()
        return written

    async def value(self, account: Account, ref: ValueRef) -> ProtectedValue | None:
        """See `ValueStore.value`."""
        return await self._runner.read(values.value, account, ref)

    async def values(self, account: Account) -> Sequence[ValueInfo]:
        """See `ValueStore.values`."""
        return await self._runner.read(values.all_values, account)

    async def remove_value(self, account: Account, ref: ValueRef) -> bool:
        """See `ValueStore.remove_value`. It is gone from the files when this returns, as after `settle`."""
        removed = await self._runner.write(values.remove_value, account, ref)
        if removed:
            await self._runner.scrub()
        return removed
