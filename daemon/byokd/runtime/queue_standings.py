"""How the queues of Event Grid are: one component of health, a line when one fails and when it is back, and metrics."""

import structlog

from byokd.ports.queues import QueueUnavailableError
from byokd.runtime.health import Component, Health
from byokd.runtime.metrics import Metrics
from byokd.runtime.queue_words import words_of

TOLD_FROM = 2
"""Failures in a row: one alone is no news, as the next try comes within seconds."""

_SHOWN = 3
"""Names in a message."""

_HARMLESS = "polling goes on"

_log = structlog.get_logger()


class QueueStandings:
    """Knows which sources' queues cannot be used. No part of readiness: without hints everything is still polled."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        self._troubled: dict[str, QueueUnavailableError] = {}

    def trouble(self, source: str, error: QueueUnavailableError, *, in_a_row: int) -> None:
        """Note that a queue could not be used, so many times in a row."""
        self._metrics.queue_failures.labels(source, error.trouble).inc()
        if in_a_row < TOLD_FROM:
            return
        before = self._troubled.get(source)
        self._troubled[source] = error
        if before is None or (before.trouble, before.code) != (error.trouble, error.code):
            message, hint = words_of(error)
            _log.warning("queue-in-trouble", source=source, why=error.trouble, message=message, hint=hint)
        self._show()

    def well(self, source: str) -> None:
        """Note that a queue was used."""
        if self._troubled.pop(source, None) is not None:
            _log.info("queue-recovered", source=source)
        self._show()

    def forget(self, source: str) -> None:
        """Note that nobody uses a queue any more."""
        if self._troubled.pop(source, None) is not None:
            self._show()

    def _show(self) -> None:
        self._metrics.queues_in_trouble.set(len(self._troubled))
        if not self._troubled:
            self._health.show_well(Component.EVENT_QUEUES)
            return
        told = {source: words_of(error) for source, error in sorted(self._troubled.items())[:_SHOWN]}
        more = len(self._troubled) - len(told)
        message = "; ".join(f"the queue of {source}: {words}" for source, (words, _) in told.items())
        hint = next(iter(told.values()))[1]
        self._health.show_trouble(
            Component.EVENT_QUEUES,
            message + (f"; and {more} more" if more else ""),
            hint=f"{hint}; {_HARMLESS}",
        )
