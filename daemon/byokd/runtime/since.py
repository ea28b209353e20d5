"""Since when: an event's number, a time, or how long ago."""

import re
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from byokd.settings.kinds import Duration

_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_DURATION: TypeAdapter[Duration] = TypeAdapter(Duration)


class SinceInvalidError(ValueError):
    """It is none of them. `hint` says how to write it."""

    hint = 'write a number of an event, a time such as 2026-03-01T12:00:00Z, or how long ago, such as "10 min" or 2h'


def parse_since(text: str, *, now: datetime) -> int | datetime:
    """Read the number of an event, after which is meant, or a time, from which on is meant.

    Raises:
        SinceInvalidError: it is neither a number, nor a time with a zone, nor a duration.
    """
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        return now - _DURATION.validate_python(text)
    except (ValidationError, OverflowError):
        pass
    try:
        time = datetime.fromisoformat(text)
        in_utc = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SinceInvalidError(f"not a time: {text!r}") from None
    if time.tzinfo is None:
        raise SinceInvalidError(f"a time without a zone: {text!r}")
    return in_utc
