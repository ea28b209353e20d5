"""What one service leaves to the one that succeeds it in the same process."""

from dataclasses import dataclass, replace
from typing import Self

from byokd.runtime.health import Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.outside import Outside
from byokd.runtime.own_faults import OwnFaults
from byokd.runtime.rationing import Rations
from byokd.runtime.sightings import Sightings
from byokd.runtime.standing import Standing
from byokd.runtime.tailing import Tailing
from byokd.settings import Settings


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What was heard, seen, spent and counted, and who looks on: a reload must not forget it."""

    health: Health
    metrics: Metrics
    sightings: Sightings
    rations: Rations
    own_faults: OwnFaults
    standing: Standing
    tailing: Tailing

    @classmethod
    def of_nobody(cls, settings: Settings, outside: Outside) -> Self:
        """Give what the first service of a process begins with."""
        clock, health, metrics = outside.clock, Health(outside.clock), Metrics()
        return cls(
            health,
            metrics,
            Sightings(),
            Rations(settings.vaults.quota_share, clock=clock, metrics=metrics),
            OwnFaults(clock, health=health, metrics=metrics, checks=settings.checks),
            Standing(clock),
            Tailing(outside.store),
        )

    def under(self, settings: Settings) -> Self:
        """Give the same to a successor, which goes by these settings from now on."""
        self.own_faults.follow(settings.checks)
        return replace(self, rations=self.rations.with_share(settings.vaults.quota_share))
