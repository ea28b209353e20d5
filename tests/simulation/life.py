"""One process of byokd, from start to crash. All its ports are asked whether it still lives."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Life:
    """Ports call `pass_by` before and after they do something: there it may end, and once ended it never goes on.

    Attributes:
        number: of this process, from 1.
        began: when it was started.
        doomed: ends at that port call from now on, counted before and after; None: not so.
        places: only port calls whose name begins so count for that.
        died_at: the port call at which it ended so.
    """

    number: int
    began: float
    on_death: Callable[[], None] = lambda: None
    is_dead: bool = False
    doomed: int | None = None
    places: str = ""
    died_at: str | None = None
    operators: list[asyncio.Task[None]] = field(default_factory=list)

    def pass_by(self, place: str) -> None:
        """Raises CancelledError if the process has ended, or ends here."""
        if self.is_dead:
            raise asyncio.CancelledError
        if self.doomed is not None and place.startswith(self.places):
            self.doomed -= 1
            if self.doomed <= 0:
                self.died_at = place
                self.is_dead = True
                self.on_death()
                raise asyncio.CancelledError
