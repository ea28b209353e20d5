"""Streams whose next message the broker refuses: when to try again, and what has been sent already."""

from collections.abc import Mapping
from dataclasses import dataclass

from byokd.ports import Clock, Randomness
from byokd.records import OutboxRow
from byokd.runtime.retrying import backoff_seconds
from byokd.settings import MqttSettings

MOST_STREAMS = 1000
"""Refused streams known at once (and a page more), which bounds memory. At the bound no other stream is begun until
some are accepted."""

HINT = "let byokd write there in the broker's access control list, or raise the limit that the broker names"
"""What to do about a refusal. A broker names its limits when byokd connects: a packet's size, nothing retained."""


@dataclass(slots=True)
class _Refusal:
    number: int
    accepted_messages: int
    attempts: int
    due: float
    topic: str
    reason: str


class Refusals:
    """The refused streams. Times are seconds of the monotonic clock."""

    def __init__(self, clock: Clock, randomness: Randomness, settings: MqttSettings) -> None:
        self._clock = clock
        self._randomness = randomness
        self._settings = settings
        self._streams: dict[str, _Refusal] = {}

    def __contains__(self, stream: str) -> bool:
        return stream in self._streams

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def full(self) -> bool:
        """Whether the bound is reached."""
        return len(self._streams) >= MOST_STREAMS

    @property
    def by_topic(self) -> Mapping[str, str]:
        """The broker's reasons by topic."""
        return {refusal.topic: refusal.reason for refusal in self._streams.values()}

    def due(self) -> set[str]:
        """Give the streams whose wait is over."""
        now = self._clock.monotonic()
        return {stream for stream, refusal in self._streams.items() if refusal.due <= now}

    def accepted_messages(self, row: OutboxRow) -> int:
        """Give how many of the row's messages the broker accepted before it refused one: those are not sent again."""
        refusal = self._streams.get(row.stream)
        return refusal.accepted_messages if refusal is not None and refusal.number == row.number else 0

    def refuse(self, row: OutboxRow, *, topic: str, accepted_messages: int, reason: str) -> bool:
        """Note a refusal; tell whether it is news."""
        before = self._streams.get(row.stream)
        attempts = 1 if before is None else before.attempts + 1
        first, most = self._settings.reconnect_first, self._settings.reconnect_most
        wait = backoff_seconds(attempts, self._randomness, first=first, most=most)
        self._streams[row.stream] = _Refusal(
            row.number, accepted_messages, attempts, self._clock.monotonic() + wait, topic, reason
        )
        return before is None or (before.number, before.topic) != (row.number, topic)

    def accept(self, stream: str) -> bool:
        """Note that the stream goes on; tell whether it was refused before."""
        return self._streams.pop(stream, None) is not None

    def hurry(self) -> None:
        """Make every stream due, because the broker may have changed its mind: there is a new connection."""
        for refusal in self._streams.values():
            refusal.due = self._clock.monotonic()
