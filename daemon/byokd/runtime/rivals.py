"""Remembers for a while that another daemon works below our topic_prefix.

Two that were given one prefix by mistake end each other's connections in turn, so at most moments one of them looks
well. Few brokers say why they close (mosquitto 2.0 does not); what the other leaves in the marker says it too.
"""

import math
from datetime import timedelta

import structlog

from byokd.ports import Clock

HINT = (
    "give each daemon a topic_prefix of its own under [mqtt], or stop the other: until then each ends the other's "
    "connection, and subscribers get the states of both"
)

_REMEMBERED = timedelta(minutes=2)
_REMEMBERED_WAITS = 4
"""Longest waits for a reconnect, after which (and after two minutes) a rival that was not met again is taken to be
gone: each of the two is let in about as often as that wait passes."""

_log = structlog.get_logger()


class Rivals:
    """What was last seen of a rival. Logged once when it comes, and anew when it comes back."""

    def __init__(self, clock: Clock, *, reconnect_most: timedelta) -> None:
        self._clock = clock
        self._remembered = max(_REMEMBERED, _REMEMBERED_WAITS * reconnect_most).total_seconds()
        self._seen_at = -math.inf
        self._seen = ""

    @property
    def problem(self) -> str | None:
        """By what a rival was noticed; None where none was of late."""
        return self._seen if self._clock.monotonic() - self._seen_at < self._remembered else None

    def saw(self, seen: str) -> None:
        """Note by what a rival was noticed."""
        if self.problem is None:
            _log.warning("bus-rival", problem=seen, hint=HINT)
        self._seen, self._seen_at = seen, self._clock.monotonic()
