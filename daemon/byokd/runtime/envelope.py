"""What an event becomes on the bus: CloudEvents 1.0 in structured JSON, and the topics they go to.

docs/events.md describes the result to subscribers.
"""

import json
from collections.abc import Mapping
from enum import StrEnum

from byokd.domain.accounts import JsonValue, instant
from byokd.ports import BusMessage
from byokd.records import OutboxRow, Retained

TRIAL = "byokd.daemon.trial"
"""The type of what `byokd doctor` sends to see whether the broker takes it."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class DaemonStatus(StrEnum):
    """Whether a daemon is there."""

    ONLINE = "online"
    OFFLINE = "offline"


def messages(row: OutboxRow, *, prefix: str) -> tuple[BusMessage, ...]:
    """Give the messages of an event, in the order in which they are to be sent: the event, then its retained state.

    The same row gives the same bytes, whoever sends it and however often: `source` and `id` name the event.
    """
    topic = f"{prefix}/{row.stream}"
    payload = _encoded(_of_row(row, prefix=prefix), row.document)
    event = BusMessage(f"{topic}/events", payload, retain=False)
    match row.retained:
        case Retained.KEEP:
            return (event,)
        case Retained.SET:
            return event, BusMessage(f"{topic}/state", payload, retain=True)
        case Retained.CLEAR:
            return event, BusMessage(f"{topic}/state", b"", retain=True)


def cloud_event(row: OutboxRow, *, prefix: str) -> dict[str, JsonValue | Mapping[str, JsonValue]]:
    """Give an event as it is sent to the bus."""
    return {**_of_row(row, prefix=prefix), "data": row.data}


def daemon_message(status: DaemonStatus, *, prefix: str, instance: str, version: str, event_id: str) -> BusMessage:
    """Give the retained message that tells whether a daemon is there.

    It has no `time`: as a Will it is written long before it is sent.
    """
    subject = f"daemons/{instance}"
    attributes = _attributes(event_id, f"byokd.daemon.{status}", source=prefix, subject=subject, time=None)
    payload = _encoded(attributes, _encode({"status": str(status), "instance": instance, "version": version}))
    return BusMessage(f"{prefix}/{subject}/status", payload, retain=True)


def trial_message(topic: str, *, prefix: str, name: str) -> BusMessage:
    """Give a message that shows whether a topic is taken. Nothing retains it, and its type tells to ignore it."""
    subject = topic.removeprefix(f"{prefix}/").rpartition("/")[0]
    attributes = _attributes(name, TRIAL, source=prefix, subject=subject, time=None)
    return BusMessage(topic, _encoded(attributes, _encode({"from": name})), retain=False)


def publisher_client_id(prefix: str) -> str:
    """Name the publishing connection: the same for every replica, so that the broker drops a stale one."""
    return f"byokd-publisher-{prefix.replace('/', '-')}"


def presence_client_id(prefix: str, instance: str) -> str:
    """Name the connection that stands for one replica."""
    return f"byokd-presence-{prefix.replace('/', '-')}-{instance}"


def _of_row(row: OutboxRow, *, prefix: str) -> dict[str, JsonValue]:
    return _attributes(row.id, row.type, source=prefix, subject=row.stream, time=instant(row.time))


def _attributes(event_id: str, event_type: str, *, source: str, subject: str, time: str | None) -> dict[str, JsonValue]:
    """Give everything but the data."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": event_type,
        "subject": subject,
        **({} if time is None else {"time": time}),
        "datacontenttype": "application/json",
    }


def _encoded(attributes: Mapping[str, JsonValue], data: str) -> bytes:
    """Put the data's own text behind its attributes: what is sent is what was signed, byte for byte."""
    return f'{_encode(attributes)[:-1]},"data":{data}}}'.encode()
