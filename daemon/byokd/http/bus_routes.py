"""The management API's routes about the bus."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from byokd.http.managed import Managed
from byokd.runtime.publisher import PublisherStatus, Republished


class RepublishRequest(BaseModel):
    """How long the caller wants to wait."""

    seconds: Annotated[float, Field(ge=0, le=3000)]


@dataclass(frozen=True, slots=True)
class _Api:
    """One method per route."""

    managed: Managed

    async def republish(self, request: RepublishRequest) -> dict[str, object]:
        publisher = self.managed.publisher
        done = await publisher.republish(within=timedelta(seconds=request.seconds))
        remaining = 0 if done.is_sent else (await self.managed.store.census()).unpublished
        return {
            "begun": done.count is not None,
            "events": done.count or 0,
            "sent": done.is_sent,
            "remaining": remaining,
            "problem": None
            if done.is_sent
            else _problem(publisher.status) or progress(done, remaining, request.seconds),
        }


def bus_routes(managed: Managed) -> APIRouter:
    """Give the routes about the bus."""
    router, api = APIRouter(), _Api(managed)
    router.post("/republish")(api.republish)
    return router


def progress(done: Republished, remaining: int, seconds: float) -> str:
    """Tell how far it came where nothing is wrong but the time."""
    came = f"{done.came} came through in {seconds:g} s"
    return came if done.count is not None else f"what waited before goes first: {came}, and {remaining} wait"


def _problem(status: PublisherStatus) -> str | None:
    if status.rival is not None:
        return f"another daemon publishes below our topic_prefix: {status.rival}"
    if not status.link.connected or status.link.problem is not None:
        return f"the broker is not connected: {status.link.problem or 'not yet'}"
    if status.store_problem is not None:
        return f"the store cannot be used: {status.store_problem}"
    if status.refused:
        topic, reason = next(iter(status.refused.items()))
        return f"the broker refuses {len(status.refused)} topic(s), such as {topic}: {reason}"
    return None
