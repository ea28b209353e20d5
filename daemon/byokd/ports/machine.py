"""The machine byokd runs on: time, chance, names, and whoever manages the service."""

from datetime import datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The time. Nothing else in byokd reads a clock or sleeps."""

    def now(self) -> datetime:
        """Give the present time, aware, in UTC. It may step; intervals are measured with `monotonic`."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never go back, from an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. Returns no earlier than `seconds` later by `monotonic`."""
        ...


class Randomness(Protocol):
    """Unpredictable bytes for keys, and numbers for spreading things in time."""

    def bytes(self, count: int) -> bytes:
        """Give `count` bytes fit for keys."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Give a number between `low` and `high`; not fit for keys."""
        ...


class Ids(Protocol):
    """Names for new things."""

    def new(self) -> str:
        """Give an id that was never given before, anywhere (a UUID in lower case)."""
        ...


class ServiceManager(Protocol):
    """Whoever started the daemon and watches over it, such as systemd; perhaps nobody.

    Telling never raises, and does not wait for an answer.
    """

    @property
    def watchdog_interval(self) -> timedelta | None:
        """How long the daemon may be silent before it is taken for hung and killed; None: for ever."""
        ...

    def status(self, sentence: str) -> None:
        """Show people one sentence on how it is."""
        ...

    def alive(self) -> None:
        """Tell that the event loop turns; until `ready`, this also asks for more time to start."""
        ...

    def ready(self) -> None:
        """Tell that the start, or what `reloading` began, is done."""
        ...

    def reloading(self) -> None:
        """Tell that other settings are being taken; `ready` must follow."""
        ...

    def stopping(self) -> None:
        """Tell that the daemon ends of its own accord."""
        ...
