"""What a message of a Storage Queue holds: a delivery of Event Grid, as JSON or as base64 of it.

Event Grid writes base64; a function or logic app in between may write plain JSON. What it says is read by `signals`.
"""

import json
from base64 import b64decode

from byokd.domain.signals import Delivery, DeliveryUnreadableError, read_delivery


def read_message(text: str) -> Delivery:
    """Read one event or several, of either schema.

    Raises:
        DeliveryUnreadableError: it is neither JSON nor base64 of it, or no event; the text holds nothing of it.
    """
    text = text.removeprefix("\ufeff").strip()
    try:
        document = json.loads(text if text[:1] in ("{", "[") else b64decode("".join(text.split()), validate=True))
    except (ValueError, RecursionError):
        raise DeliveryUnreadableError("a message is JSON, or base64 of it") from None
    return read_delivery(document)
