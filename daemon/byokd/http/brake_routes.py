"""The management API's routes about the brake."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from byokd.domain.accounts import instant
from byokd.domain.brake import ReleaseCause
from byokd.domain.identifiers import printable
from byokd.http.managed import Managed
from byokd.ports.brake import BrakeReport, HeldDenial
from byokd.runtime.brake_words import found, sentence
from byokd.settings import BrakeSettings

MOST = 100
"""Held denials that are named; the number tells of the rest."""


class EngageRequest(BaseModel):
    """Why an operator engages the brake."""

    message: Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class _Api:
    """One method per route."""

    managed: Managed

    async def status(self) -> dict[str, object]:
        return _shown(await self.managed.brakeman.report(limit=MOST), self.managed.settings.brake)

    async def engage(self, request: EngageRequest) -> dict[str, object]:
        before = (await self.managed.brakeman.report(limit=0)).brake.engagement
        await self.managed.brakeman.engage(printable(request.message))
        return {"replaced": before.message or None if before is not None else None, **await self.status()}

    async def release(self) -> dict[str, object]:
        return await self._settle(ReleaseCause.DISCARDED)

    async def confirm(self) -> dict[str, object]:
        return await self._settle(ReleaseCause.CONFIRMED)

    async def _settle(self, cause: ReleaseCause) -> dict[str, object]:
        settled = await self.managed.brakeman.settle(cause)
        return {"wasEngaged": settled is not None, "settled": settled or 0, **await self.status()}


def brake_routes(managed: Managed) -> APIRouter:
    """Give the routes about the brake."""
    router, api = APIRouter(), _Api(managed)
    router.get("/brake")(api.status)
    router.post("/brake/engage")(api.engage)
    router.post("/brake/release")(api.release)
    router.post("/brake/confirm")(api.confirm)
    return router


def _shown(report: BrakeReport, settings: BrakeSettings) -> dict[str, object]:
    engagement = report.brake.engagement
    finding = None if engagement is None or engagement.finding is None else engagement.finding.data()
    until = None if report.held_since is None else instant(report.held_since + settings.max_hold)
    return {
        "engaged": engagement is not None,
        "engagedBy": None if engagement is None else str(engagement.by),
        "since": None if engagement is None else instant(engagement.since),
        "message": None if engagement is None else engagement.message,
        "mode": settings.mode,
        "found": finding,
        "why": None if finding is None or engagement is None else found(engagement),
        "held": report.held,
        "accounts": report.accounts,
        "tenants": report.tenants,
        "vaults": report.vaults,
        "holdUntil": until,
        "denials": [_denial(denial) for denial in report.denials],
        "summary": sentence(report, settings),
    }


def _denial(denial: HeldDenial) -> dict[str, object]:
    return {
        "keyIdentifier": str(denial.key),
        "tenant": denial.tenant,
        "identity": denial.identity,
        "reason": str(denial.reason),
        "message": denial.message,
        "since": instant(denial.since),
        "heldSince": instant(denial.held_since),
        "accounts": denial.accounts,
    }
