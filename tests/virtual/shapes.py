"""Every message that a world was told looks as docs/asyncapi.json says."""

import json
from collections.abc import Iterable

from byokd.ports import BusMessage
from byokd.runtime.event_shapes import flaws

OF_EVENTS = ("/events", "/state", "/status")


def assert_shapes(messages: Iterable[BusMessage]) -> None:
    payloads = dict.fromkeys(one.payload for one in messages if one.payload and one.topic.endswith(OF_EVENTS))
    for payload in payloads:
        event = json.loads(payload)
        assert (found := flaws(event)) == [], f"{event['type']}: {found}"
