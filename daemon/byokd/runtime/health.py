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
        before = self._conditions.get(component)
        if before is None or not before.well:
            self._conditions[component] = Condition(well=True, since=self.clock.now(), message=message)
            if before is not None:
                _log.info("component-recovered", component=component, message=message)

    def trouble(self, component: Component, message: str, *, hint: str | None = None) -> None:
        """Note that a component does not work; logged when it is news."""
        before = self._conditions.get(component)
        news = before is None or before.well
        if news or (before is not None and before.message != message):
            since = self.clock.now() if news or before is None else before.since
            self._conditions[component] = Condition(well=False, since=since, message=message, hint=hint)
        if news:
            _log.warning("component-in-trouble", component=component, message=message, hint=hint)

    def is_well(self, component: Component) -> bool:
        """Whether a component is known to work."""
        condition = self._conditions.get(component)
        return condition is not None and condition.well

    @property
    def conditions(self) -> Mapping[Component, Condition]:
        """All that is known."""
        return dict(self._conditions)
