"""The lines of an exported history, and of a heads file: a stable contract, described in docs/events.md."""

import json
from collections.abc import Iterable, Iterator, Mapping

from byokd.domain.chain import Heads, KnownHead, moment
from byokd.domain.vocabulary import EventType
from byokd.records import SignedEvent
from byokd.runtime.envelope import cloud_event

Line = Mapping[str, object]


class HeadsInvalidError(Exception):
    """A line of a heads file is not one. The message says which."""


def event_line(signed: SignedEvent, *, prefix: str) -> Line:
    """Give an event with all that it signs; `data` is signed as compact ASCII JSON, in this order."""
    row = signed.event
    return {
        "line": "event",
        "number": row.number,
        "stream": row.stream,
        "time": moment(row.time),
        "account": signed.account,
        "incarnation": signed.incarnation,
        "sequence": signed.sequence,
        "retained": str(row.retained),
        "previous": signed.previous.hex(),
        "mac": signed.mac.hex(),
        "auditKey": signed.audit_key,
        "event": cloud_event(row, prefix=prefix),
    }


def head_line(known: KnownHead) -> Line:
    """Give the head of one stream."""
    return {"line": "head", "stream": known.stream, "head": known.head.hex(), "length": known.length}


def heads_line(heads: Heads) -> Line:
    """Give the last line: the same numbers as in the event `audit-heads`."""
    return {"line": "heads", "streams": heads.streams, "lastEvent": heads.last_event, "digest": heads.digest}


def known_heads(lines: Iterable[str]) -> Iterator[KnownHead | Heads]:
    """Read what an export or an archive of the bus tells of heads; other lines of theirs are passed over.

    Raises:
        HeadsInvalidError: a line is not JSON, or not as it was exported.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = _known_head(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise HeadsInvalidError(f"line {number} is not a line of an export or an event in JSON") from None
        if found is not None:
            yield found


def _known_head(line: dict[str, object]) -> KnownHead | Heads | None:
    if line.get("line") == "head":
        return KnownHead(str(line["stream"]), bytes.fromhex(str(line["head"])), _count(line["length"]))
    if line.get("line") == "heads":
        return _heads(line)
    event = line["event"] if line.get("line") == "event" else line
    if isinstance(event, dict) and event.get("type") == EventType.SERVICE_AUDIT_HEADS:
        return _heads(event["data"])
    return None


def _heads(line: Mapping[str, object]) -> Heads:
    return Heads(_count(line["streams"]), _count(line["lastEvent"]), str(line["digest"]))


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("not a count")
    return value
