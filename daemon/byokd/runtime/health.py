"""What is well and what is not, by component. Trouble is said once when it begins and once when it ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import structlog

from byokd.ports import Clock

_log = structlog.get_logger()


class Component(StrEnum):
    """What /healthz tells of."""

    STORE = "store"
    SERVICE_KEYS = "service-keys"
    BUS = "bus"
    SCHEDULER = "scheduler"
    IDENTITIES = "identities"
    VAULTS = "vaults"
    CLOCK = "clock"
    BRAKE = "brake"
    ACCOUNTS = "accounts"
    EVENT_QUEUES = "event-queues"


@dataclass(frozen=True, slots=True)
class Condition:
    """How a component is: well, or in trouble since some time for a reason that can be acted on."""

    well: bool
    since: datetime
    message: str
    hint: str | None = None


@dataclass(slots=True)
class Health:
    """The conditions, shared by the tasks that know and the pages that show."""

    clock: Clock
    _conditions: dict[Component, Condition] = field(default_factory=dict)

    def well(self, component: Component, message: str = "ok") -> None:
        """Note that a component works."""
        if self.show_well(component, message):
            _log.info("component-recovered", component=component, message=message)

    def trouble(self, component: Component, message: str, *, hint: str | None = None) -> None:
        """Note that a component does not work; logged when it is news."""
        if self.show_trouble(component, message, hint=hint):
            _log.warning("component-in-trouble", component=component, message=message, hint=hint)

    def show_well(self, component: Component, message: str = "ok") -> bool:
        """Note that a component works, without a log line; tell whether it was in trouble before."""
        before = self._conditions.get(component)
        if before is not None and before.well:
            return False
        self._conditions[component] = Condition(well=True, since=self.clock.now(), message=message)
        return before is not None

    def show_trouble(self, component: Component, message: str, *, hint: str | None = None) -> bool:
        """Note that a component does not work, without a log line; tell whether that is news."""
        before = self._conditions.get(component)
        begun = self.clock.now() if before is None or before.well else before.since
        self._conditions[component] = Condition(well=False, since=begun, message=message, hint=hint)
        return before is None or before.well

    def is_well(self, component: Component) -> bool:
        """Whether a component is known to work."""
        condition = self._conditions.get(component)
        return condition is not None and condition.well

    @property
    def conditions(self) -> Mapping[Component, Condition]:
        """All that is known."""
        return dict(self._conditions)
