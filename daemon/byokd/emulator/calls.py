"""What was asked, counted by target, operation and answer."""

from collections import Counter
from dataclasses import dataclass, field

from byokd.emulator.documents import CallCount


@dataclass(slots=True)
class Calls:
    """Counters. Status 0 means that no answer was given; `code` then names the fault, else the reason in the answer."""

    counts: Counter[tuple[str, str, int, str]] = field(default_factory=Counter)

    def note(self, target: str, operation: str, status: int, code: str = "") -> None:
        """Count one call."""
        self.counts[target, operation, status, code] += 1

    def total(self, *, target: str | None = None, operation: str | None = None, status: int | None = None) -> int:
        """How many calls fit all that is given."""
        return sum(
            count
            for (a_target, an_operation, a_status, _), count in self.counts.items()
            if target in (None, a_target) and operation in (None, an_operation) and status in (None, a_status)
        )

    def reset(self) -> None:
        """Begin to count anew."""
        self.counts.clear()

    def listing(self) -> list[CallCount]:
        """All counters, sorted."""
        return [
            {"target": target, "operation": operation, "status": status, "code": code, "count": count}
            for (target, operation, status, code), count in sorted(self.counts.items())
        ]
