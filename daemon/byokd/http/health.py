"""/livez, /readyz, /healthz and /metrics: for probes, load balancers and Prometheus."""

from dataclasses import dataclass
from datetime import timedelta

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from byokd.domain.accounts import instant
from byokd.ports import Clock
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.observer import Observer
from byokd.runtime.service import VERSION
from byokd.settings import HttpSettings, MqttSettings


@dataclass(frozen=True, slots=True)
class Probes:
    """What the pages show."""

    clock: Clock
    health: Health
    observer: Observer
    metrics: Metrics
    mqtt: MqttSettings
    instance: str

    def unready(self) -> list[str]:
        """Say why the service is not ready; customers' vaults never are a reason."""
        reasons = []
        store = self.health.conditions.get(Component.STORE)
        if store is None:
            reasons.append("store: not open yet")
        elif not store.well:
            reasons.append(f"store: {store.message}")
        census = self.observer.census
        if census is not None and not self.health.is_well(Component.BUS):
            bus = self.health.conditions.get(Component.BUS)
            why = "not connected yet" if bus is None else bus.message
            age = timedelta(0)
            if census.oldest_unpublished is not None:
                age = self.clock.now() - census.oldest_unpublished
            if census.unpublished > self.mqtt.backlog_bound:
                reasons.append(f"bus: {why}; {census.unpublished} events wait")
            elif age > self.mqtt.backlog_age_bound:
                reasons.append(f"bus: {why}; the oldest waiting event is {age.total_seconds():.0f} s old")
        return reasons

    def report(self) -> dict[str, object]:
        """Give /healthz."""
        now = self.clock.now()
        components = {
            str(component): {
                "ok": condition.well,
                "since": instant(condition.since),
                "ageSeconds": round((now - condition.since).total_seconds(), 3),
                "message": condition.message,
                "hint": condition.hint,
            }
            for component, condition in self.health.conditions.items()
        }
        unready = self.unready()
        return {
            "instance": self.instance,
            "version": VERSION,
            "ready": not unready,
            "notReadyBecause": unready,
            "components": components,
            "numbers": self._numbers(),
        }

    def _numbers(self) -> dict[str, object] | None:
        census = self.observer.census
        if census is None:
            return None
        return {
            "accounts": {str(state): count for state, count in census.accounts.items()},
            "watches": census.watches,
            "vaults": census.vaults,
            "deniedVersions": census.denied_versions,
            "suspectedVersions": census.suspected_versions,
            "heldVersions": census.held_versions,
            "unverifiedVersions": census.unverified_versions,
            "unpublishedEvents": census.unpublished,
            "rewrapsWaiting": census.rewraps_waiting,
            "damagedAccounts": census.damaged_accounts,
            "warnings": {str(kind): count for kind, count in census.warnings.items()},
        }


def health_application(probes: Probes, settings: HttpSettings) -> FastAPI:
    """Make the application that listens on TCP."""
    application = FastAPI(title="byokd", docs_url=None, redoc_url=None, openapi_url=None)
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts), www_redirect=False)

    @application.get("/livez")
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @application.get("/readyz")
    async def readyz() -> PlainTextResponse:
        reasons = probes.unready()
        return PlainTextResponse(
            "".join(f"{line}\n" for line in reasons) or "ok\n", status_code=503 if reasons else 200
        )

    @application.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse(probes.report())

    @application.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(probes.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return application
