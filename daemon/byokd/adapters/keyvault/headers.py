"""What the headers of an answer say beside its status: when to come again, and who we are to the vault."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final

MOST_RETRY_AFTER: Final = timedelta(minutes=10)
"""A longer wait is cut to this: nobody who answers once may silence checks for good."""
_MOST_DATE_CHARS: Final = 64
_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)
_ADDRESS: Final = re.compile(r"(?:^|;)\s*addr=([0-9A-Fa-f.:]{2,45})(?:;|$)", re.ASCII)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read Retry-After, in seconds or as a date (against the answer's own Date, for our clock may be off).

    None when it is missing or nonsense; at least nothing, at most MOST_RETRY_AFTER.
    """
    asked = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(asked):
        return min(timedelta(seconds=int(asked)), MOST_RETRY_AFTER)
    until, sent = http_date(asked), http_date(headers.get("Date", ""))
    if until is None or sent is None:
        return None
    return min(max(until - sent, timedelta(0)), MOST_RETRY_AFTER)


def our_address(headers: Mapping[str, str]) -> str | None:
    """Give the address that the vault sees us come from, which is what its network rules go by."""
    found = _ADDRESS.search(headers.get("x-ms-keyvault-network-info", "")[:256])
    try:
        return None if found is None else str(ip_address(found[1]))
    except ValueError:
        return None


def http_date(text: str) -> datetime | None:
    """Read a date with its zone, in UTC; None when it is none, or none that a clock can show."""
    try:
        date = parsedate_to_datetime(text[:_MOST_DATE_CHARS])
        return None if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
