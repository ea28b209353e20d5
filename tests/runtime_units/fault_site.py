"""Faults of our own, a clock set by hand, and what vaults say."""

from datetime import datetime, timedelta

from byokd.domain.answers import Evidence, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import KeyTarget
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.own_faults import OwnFault, OwnFaults
from byokd.settings import CheckSettings
from virtual.world import START

IDENTITIES, VAULTS, CLOCK = Component.IDENTITIES, Component.VAULTS, Component.CLOCK
MINUTE = timedelta(minutes=1)


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.stepped = timedelta(0)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds) + self.stepped

    def monotonic(self) -> float:
        return self.seconds


class Site:
    """Faults, and what they are told."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.health = Health(self.clock)
        self.metrics = Metrics()
        self.faults = OwnFaults(self.clock, health=self.health, metrics=self.metrics, checks=CheckSettings())

    def after(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.faults.look()

    def hear(self, vault: int, answer: object, *, identity: str = "platform") -> None:
        self.faults.hear(target(vault, identity), answer)

    def trouble(self, component: Component) -> str | None:
        condition = self.health.conditions.get(component)
        return None if condition is None or condition.well else condition.message

    def standing(self) -> dict[str, float]:
        gauge = self.metrics.own_faults
        return {fault: value for fault in OwnFault if (value := gauge.labels(fault)._value.get())}


def target(vault: int, identity: str = "platform") -> KeyTarget:
    key = KeyIdentifier(VaultHost(f"vault{vault}.vault.azure.net"), "key")
    return KeyTarget(IdentityName(identity), TenantId("00000000-0000-0000-0000-000000000001"), key)


def silence(reason: Reason, *, code: str | None = None, request: str | None = None) -> NoAnswer:
    return NoAnswer(reason, Evidence("unwrapKey", code=code, request_id=request))


def refusal(kind: RefusalKind) -> Refused:
    return Refused(kind, Evidence("unwrapKey", status=403, request_id="8d2f"))


NO_TOKEN = silence(Reason.TOKEN_UNAVAILABLE, code="CredentialUnavailableError")
TIMED_OUT = silence(Reason.TIMED_OUT)
OPENED = b"probe"
