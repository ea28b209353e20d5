"""What MQTT has room for in CONNECT and in a topic: refused here, or the packet could not be written at all."""

import re
from datetime import timedelta

MOST_BYTES = 65_535
"""Of a text in a packet, as UTF-8: its length is written in two bytes (MQTT 5, 1.5.4)."""

MOST_KEEPALIVE = timedelta(hours=18)
"""The last whole hour of what CONNECT can say: 65,535 s (MQTT 5, 3.1.2.10)."""

MOST_PREFIX_CHARS = 128
"""Room for everything that follows it, also with brokers that take topics of 256 bytes, and short enough for logs."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""NUL is forbidden, brokers may refuse the others (MQTT 5, 1.5.4)."""


class NoPasswordError(ValueError):
    """What a file holds is no password; the words follow "it"."""


def keepalive(value: timedelta) -> timedelta:
    """Refuse what CONNECT has no room for."""
    if value > MOST_KEEPALIVE:
        raise ValueError('too long: MQTT has room for "18 h" at most')
    return value


def username(value: str) -> str:
    """Refuse what CONNECT has no room for, and what is no text to MQTT."""
    if len(value.encode()) > MOST_BYTES:
        raise ValueError(f"too long: MQTT has room for {MOST_BYTES} bytes of UTF-8")
    if _CONTROLS.search(value):
        raise ValueError("not a user name: there are control characters in it")
    return value


def password(content: bytes) -> str:
    """Give the password that a file with this content holds, without its trailing line break.

    Raises:
        NoPasswordError: it is none.
    """
    found = content.removesuffix(b"\n").removesuffix(b"\r")
    if len(found) > MOST_BYTES:
        raise NoPasswordError(f"is longer than the {MOST_BYTES} bytes that MQTT has room for: no password")
    try:
        text = found.decode()
    except UnicodeDecodeError:
        raise NoPasswordError("is not UTF-8 text") from None
    if "\0" in text:
        raise NoPasswordError("has a NUL character in it: no password, or text in another encoding than UTF-8")
    return text
