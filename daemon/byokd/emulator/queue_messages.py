"""What Event Grid writes into a Storage Queue: each event by itself, base64 of its JSON, by Azure Storage's REST."""

import base64
import json
from email.utils import formatdate
from typing import Final

from byokd.emulator.grid_events import GridEvent
from byokd.emulator.vocabulary import Schema

AUDIENCE: Final = "https://storage.azure.com"
_VERSION: Final = "2024-11-04"


def headers_at(moment: float) -> dict[str, str]:
    """What a request to Azure Storage has, beside its token."""
    when = formatdate(moment, usegmt=True)
    return {"Content-Type": "application/xml", "x-ms-version": _VERSION, "x-ms-date": when}


def message_of(event: GridEvent, schema: Schema) -> bytes:
    """The body of a request that puts a message. Base64 needs no escaping in XML."""
    text = base64.b64encode(json.dumps(event.envelope(schema)).encode()).decode("ascii")
    return f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()
