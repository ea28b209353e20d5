"""The chain of events: what is signed, and what a stream's events must look like if nobody touched them.

Each event signs its predecessor of the same stream. A stream's `Chain` signs where its kept events begin and end.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

BEGINNING: Final = bytes(32)
"""What the first event of a stream has for a predecessor."""

_EVENT: Final = b"byokd event v1"
_CHAIN: Final = b"byokd chain v1"


class Flaw(StrEnum):
    """What can be wrong with the record. Each has a row in docs/operations.md."""

    EVENT_CHANGED = "event-changed"
    EVENT_MISSING = "event-missing"
    EVENT_ADDED = "event-added"
    EVENTS_REORDERED = "events-reordered"
    BEGINNING_MISSING = "beginning-missing"
    END_MISSING = "end-missing"
    CHAIN_CHANGED = "chain-changed"
    CHAIN_MISSING = "chain-missing"
    AUDIT_KEY_MISSING = "audit-key-missing"
    ACCOUNT_DIFFERS = "account-differs"
    HEAD_UNKNOWN = "head-unknown"


class ForgottenError(Exception):
    """What is asked about was forgotten in good order since."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong: what, where (`number` is the event's, or the one before the gap) and in words."""

    flaw: Flaw
    stream: str
    number: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A stream's ends.

    Attributes:
        floor: the mac of the last forgotten event; `BEGINNING` when none was.
        floor_number: that event's number; 0 when none was.
        forgotten: how many events were forgotten.
        head: the mac of the last event.
        length: how many events there ever were.
    """

    stream: str
    floor: bytes = BEGINNING
    floor_number: int = 0
    forgotten: int = 0
    head: bytes = BEGINNING
    length: int = 0

    def grown(self, head: bytes) -> "Chain":
        """Give the chain with one more event."""
        return Chain(self.stream, self.floor, self.floor_number, self.forgotten, head, self.length + 1)

    def signed(self) -> bytes:
        """Give what the chain's signature is made of."""
        return _CHAIN + b"".join(
            map(_field, (self.stream, self.floor, self.floor_number, self.forgotten, self.head, self.length))
        )


@dataclass(frozen=True, slots=True)
class Link:
    """An event as it is signed. What a database gives may be of any type, once somebody changed it.

    `number` and whether it was published are not signed: numbers are given by the database, publishing comes later.
    """

    number: int
    previous: object
    stream: object
    id: object
    type: object
    time: object
    account: object
    incarnation: object
    sequence: object
    data: object
    retained: object
    mac: object = None
    audit_key: object = None

    def signed(self) -> bytes:
        """Give what the event's signature is made of."""
        return event_bytes(
            self.previous,
            self.stream,
            self.id,
            self.type,
            _moment(self.time),
            self.account,
            self.incarnation,
            self.sequence,
            self.data,
            self.retained,
        )


def event_bytes(*fields: object) -> bytes:
    """Give the bytes that an event signs; the fields in the order of `Link`, the time as `moment` gives it."""
    return _EVENT + b"".join(map(_field, fields))


@lru_cache(maxsize=256)
def moment(time: datetime) -> str:
    """Give a time as it is signed: RFC 3339 in UTC, to the microsecond. Kept, because many events have one time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(time: object) -> object:
    """Read what the database gives: a time, or its text without a zone, in UTC."""
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return time
    if not isinstance(time, datetime):
        return time
    return moment(time.replace(tzinfo=UTC) if time.tzinfo is None else time)


def _field(value: object) -> bytes:
    """Tell apart what is of another type or length, so that no two records have the same bytes."""
    if isinstance(value, str):
        content = value.encode("utf-8", "surrogateescape")
        return b"t%d:%b" % (len(content), content)
    if isinstance(value, bytes):
        return b"b%d:%b" % (len(value), value)
    if value is None:
        return b"n"
    return b"%c%b:" % (b"i" if type(value) is int else b"?", repr(value).encode())


class Genuine(StrEnum):
    """Whether a signature is of what it stands beside."""

    YES = "yes"
    NO = "no"
    KEY_MISSING = "key-missing"


@dataclass(slots=True)
class Walk:
    """Looks at the kept events of one stream, in the order of their numbers, and tells what is wrong.

    Attributes:
        chain: the stream's ends; None when they cannot be trusted, so that only the links are looked at.
        judge: tells whether an event's signature is genuine.
        has: tells whether the stream has an event with that mac, wherever.
        seen: how many events were looked at.
        last: the last of them.
    """

    stream: str
    chain: Chain | None
    judge: Callable[[Link], Genuine]
    has: Callable[[bytes], bool]
    seen: int = 0
    last: Link | None = None
    _reordered: bool = False
    _incomplete: bool = False

    def defects(self, links: Iterable[Link]) -> Iterator[Defect]:
        """Give every defect. What a changed event says of its place is not believed."""
        before = None if self.chain is None else self.chain.floor
        for link in links:
            match self.judge(link):
                case Genuine.NO:
                    yield self._defect(Flaw.EVENT_CHANGED, link.number, "the event is not as it was recorded")
                    before = None
                case genuine:
                    if genuine is Genuine.KEY_MISSING:
                        yield self._defect(
                            Flaw.AUDIT_KEY_MISSING, link.number, f"the audit key {link.audit_key!r} is not there"
                        )
                    if before is not None and link.previous != before:
                        yield from self._broken(link)
                    before = link.mac if isinstance(link.mac, bytes) else None
            self.seen += 1
            self.last = link
        if self.chain is not None:
            yield from self._at_the_end(self.chain, before)

    def _broken(self, link: Link) -> Iterator[Defect]:
        """Tell why an event does not follow on the one before it."""
        previous = link.previous
        if isinstance(previous, bytes) and (self.has(previous) or (self.chain and previous == self.chain.floor)):
            yield from self._reorder(link.number)
            return
        self._incomplete = True
        if self.last is None:
            yield self._defect(
                Flaw.BEGINNING_MISSING, link.number, "events before this one are missing that were not forgotten"
            )
        else:
            yield self._defect(
                Flaw.EVENT_MISSING, self.last.number, f"events between this one and {link.number} are missing"
            )

    def _reorder(self, number: int) -> Iterator[Defect]:
        if not self._reordered:
            self._reordered = True
            yield self._defect(Flaw.EVENTS_REORDERED, number, "from this event on the order is not as it was recorded")

    def _at_the_end(self, chain: Chain, before: bytes | None) -> Iterator[Defect]:
        number = None if self.last is None else self.last.number
        kept = chain.length - chain.forgotten
        if before is not None and before != chain.head:
            if self.has(chain.head):
                if self.seen == kept:
                    yield from self._reorder(chain.floor_number if number is None else number)
            else:
                self._incomplete = True
                yield self._defect(Flaw.END_MISSING, number, "events after this one are missing")
        if self.seen > kept:
            yield self._defect(Flaw.EVENT_ADDED, number, f"{self.seen - kept} events more than were recorded")
        elif self.seen < kept and not self._incomplete:
            yield self._defect(Flaw.EVENT_MISSING, number, f"{kept - self.seen} of {kept} events are missing")

    def _defect(self, flaw: Flaw, number: int | None, message: str) -> Defect:
        return Defect(flaw, self.stream, number, message)


@dataclass(frozen=True, slots=True)
class Heads:
    """The ends of all streams at one moment.

    Attributes:
        streams: how many there were.
        last_event: the greatest number given until then.
        digest: SHA-256, in hexadecimal, over a line `{head in hexadecimal} {stream}` each, ended by line feeds, in the
            order of the streams' bytes.
    """

    streams: int
    last_event: int
    digest: str


class HeadsDigest:
    """Makes the digest of heads that come in the order of their streams."""

    def __init__(self) -> None:
        self._streams = 0
        self._digest = hashlib.sha256()

    def add(self, stream: str, head: bytes) -> None:
        """Take the next one."""
        self._streams += 1
        self._digest.update(f"{head.hex()} {stream}\n".encode("utf-8", "surrogateescape"))

    def heads(self, *, last_event: int) -> Heads:
        """Give the result."""
        return Heads(self._streams, last_event, self._digest.hexdigest())


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A stream's head as it was exported, and how many events the stream had had by then."""

    stream: str
    head: bytes
    length: int
