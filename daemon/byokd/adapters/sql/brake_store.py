"""The BrakeStore port: each method hands one transaction to a runner."""

from datetime import datetime

from byokd.adapters.sql import brake, brake_counts
from byokd.adapters.sql.part import StorePart
from byokd.domain.brake import Brake, ReleaseCause
from byokd.ports.brake import BrakeReport, BrakeTerms, Consulted, Settlement


class SqlBrakeStore(StorePart):
    """The brake, in an SQL database. Obligations and errors of each method: see `byokd.ports.brake.BrakeStore`."""

    async def brake_report(self, *, limit: int) -> BrakeReport:
        """See `BrakeStore.brake_report`."""
        return await self._runner.read(brake_counts.report, limit=limit)

    async def consult_brake(self, terms: BrakeTerms, *, now: datetime) -> Consulted:
        """See `BrakeStore.consult_brake`."""
        return await self._runner.write(brake.consult, terms, recorder=self._recorder, now=now)

    async def engage_brake(self, message: str, terms: BrakeTerms, *, now: datetime) -> Brake:
        """See `BrakeStore.engage_brake`."""
        return await self._runner.write(brake.engage, message, terms, recorder=self._recorder, now=now)

    async def release_proved_brake(self, terms: BrakeTerms, *, now: datetime) -> Brake:
        """See `BrakeStore.release_proved_brake`."""
        return await self._runner.write(brake.release_proved, terms, recorder=self._recorder, now=now)

    async def settle_held(self, cause: ReleaseCause, *, limit: int, now: datetime) -> Settlement:
        """See `BrakeStore.settle_held`."""
        return await self._runner.write(brake.settle_held, cause, limit=limit, recorder=self._recorder, now=now)
