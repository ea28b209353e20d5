"""Since when: a number, a time, or how long ago."""

from datetime import UTC, datetime, timedelta

import pytest

from byokd.runtime.since import SinceInvalidError, parse_since

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("17", 17),
        ("0", 0),
        ("10 min", NOW - timedelta(minutes=10)),
        ("2h", NOW - timedelta(hours=2)),
        ("2026-03-01T10:00:00Z", NOW - timedelta(hours=2)),
        ("2026-03-01T11:30:00.5+01:00", NOW - timedelta(hours=1, minutes=29, seconds=59.5)),
    ],
)
def test_what_is_meant(text: str, meant: int | datetime) -> None:
    assert parse_since(text, now=NOW) == meant


_BEYOND_ALL_YEARS = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00", "99999 d", "999999999 d")


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-1", "10 m", "2026-03-01T10:00:00", "2026-13-01T10:00:00Z", "9" * 30, *_BEYOND_ALL_YEARS],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(SinceInvalidError):
        parse_since(text, now=NOW)
