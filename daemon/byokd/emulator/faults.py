"""Bad luck on demand: which requests it strikes, and how often."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from byokd.emulator.refusals import nothing_named
from byokd.emulator.vocabulary import ALL_VAULTS, ARM, ENTRA, EVENT_GRID, MANAGED_IDENTITY, FaultKind, Operation

_OWN_OPERATIONS: Final = {
    FaultKind.STALE_READ: frozenset({Operation.GET}),
    FaultKind.WRONG_UNWRAP: frozenset({Operation.UNWRAP_KEY}),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of bad luck.

    `target` is a vault, `*` for all vaults, `entra`, `managed-identity`, `arm` or `event-grid`; `operations` empty
    means all. It strikes `share` of the requests that it meets, evenly spread, until `count` strikes or `until` (epoch
    seconds). The fields after `until` belong to single kinds; unset, they take the kind's default.
    """

    target: str
    kind: FaultKind
    operations: frozenset[Operation] = frozenset()
    share: float = 1.0
    count: int | None = None
    until: float | None = None
    seconds: float | None = None
    retry_after: int | None = None
    status: int | None = None
    code: str | None = None
    inner: str | None = None
    message: str | None = None
    versions_back: int = 1
    id: int = 0

    def meets(self, target: str, operation: Operation, now: float) -> bool:
        """Whether a request is one of those that this could strike."""
        everywhere = self.target == ALL_VAULTS and target not in (ENTRA, MANAGED_IDENTITY, ARM, EVENT_GRID)
        there = everywhere or self.target == target
        return (
            there and (not self.operations or operation in self.operations) and (self.until is None or now < self.until)
        )


@dataclass(slots=True)
class _Active:
    fault: Fault
    met: int = 0
    struck: int = 0

    def strikes(self) -> bool:
        """Count one meeting: struck when the share, spread evenly from the first meeting on, comes due."""
        self.met += 1
        due = math.ceil(round(self.met * self.fault.share, 9))
        if due <= self.struck:
            return False
        self.struck += 1
        return True

    def spent(self, now: float) -> bool:
        used_up = self.fault.count is not None and self.struck >= self.fault.count
        return used_up or (self.fault.until is not None and self.fault.until <= now)


@dataclass(slots=True)
class Faults:
    """All bad luck that waits. Spent faults are dropped."""

    clock: Callable[[], float]
    active: dict[int, _Active] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def set(self, fault: Fault) -> Fault:
        """Add one; it comes back with its number."""
        operations = _OWN_OPERATIONS.get(fault.kind, fault.operations)
        numbered = replace(fault, id=next(self.numbers), operations=operations)
        self.active[numbered.id] = _Active(numbered)
        return numbered

    def clear(self, number: int | None = None, target: str | None = None) -> int:
        """Remove one, all of a target, or all; how many there were. WorldError for a number that is not there."""
        if number is not None and number not in self.active:
            raise nothing_named("fault", str(number), known="`byokd emulator state`")
        gone = [
            one.fault.id
            for one in self.active.values()
            if number in (None, one.fault.id) and target in (None, one.fault.target)
        ]
        for one in gone:
            del self.active[one]
        return len(gone)

    def strike(self, target: str, operation: Operation) -> list[Fault]:
        """What strikes this request: any latencies, and then at most one other fault, the one set first."""
        now, delays, worst = self.clock(), list[Fault](), list[Fault]()
        for one in self.active.values():
            place = delays if one.fault.kind is FaultKind.LATENCY else worst
            waits = one.spent(now) or (place is worst and worst)
            if not waits and one.fault.meets(target, operation, now) and one.strikes():
                place.append(one.fault)
        for one in [one for one in self.active.values() if one.spent(now)]:
            del self.active[one.fault.id]
        return delays + worst

    def listing(self) -> list[Fault]:
        """Those that have not been spent."""
        now = self.clock()
        return [one.fault for one in self.active.values() if not one.spent(now)]
