"""Statements of many rows do what SQLAlchemy's own path does, row for row."""

from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update

from byokd.adapters.sql.many import insert_many, update_many
from byokd.adapters.sql.rows import Values
from byokd.adapters.sql.tables import events
from store.builders import START, Stage

COUNTS = (1, 9, 10, 11, 99, 100, 101, 237, 500)
"""Around the sizes that are inserted together."""

_INSERT = insert(events)
_MOVE = update(events).where(events.c.number == bindparam("of_number"), events.c.id == bindparam("known"))


def _row(number: int, *, time: datetime) -> Values:
    """Give an event with text, bytes, a document, times and gaps, so that a value in another's place shows."""
    return {
        "number": number,
        "id": f"{number:036}",
        "stream": f"accounts/{number}",
        "type": "100 % of it: %s ? \N{SNOWMAN}",
        "time": time,
        "account": None if number % 3 else f"account {number}",
        "incarnation": None if number % 3 else "one",
        "sequence": None if number % 3 else number,
        "data": {"number": number, "nothing": None},
        "retained": "set",
        "published_at": time if number % 2 else None,
        "previous": bytes([number % 256]) * 32,
        "mac": number.to_bytes(32, "big"),
        "audit_key": "key-1",
    }


def _rows(count: int) -> list[Values]:
    """Give events of which some have the time of the one before them, and some are of another zone."""
    zone = timezone(timedelta(hours=2))
    times = (START + timedelta(microseconds=number // 3) for number in range(count))
    return [
        _row(number, time=time.astimezone(zone) if number % 5 == 0 else time) for number, time in enumerate(times, 1)
    ]


@pytest.mark.parametrize("count", COUNTS)
async def test_rows_are_inserted_as_sqlalchemy_would(stage: Stage, count: int) -> None:
    rows = _rows(count)

    def both_ways(connection: Connection) -> tuple[list[object], list[object]]:
        insert_many(connection, _INSERT, rows)
        ours: list[object] = list(connection.execute(select(events).order_by(events.c.number)))
        connection.execute(events.delete())
        connection.execute(_INSERT, rows)
        return ours, list(connection.execute(select(events).order_by(events.c.number)))

    ours, theirs = await stage.store._runner.write(both_ways)
    assert len(ours) == count
    assert ours == theirs


async def test_numbers_that_the_database_gives_grow_with_the_rows(stage: Stage) -> None:
    rows = [{name: value for name, value in row.items() if name != "number"} for row in _rows(237)]

    def inserted(connection: Connection) -> list[str]:
        insert_many(connection, _INSERT, rows)
        return list(connection.scalars(select(events.c.id).order_by(events.c.number)))

    assert await stage.store._runner.write(inserted) == [row["id"] for row in rows]


async def test_an_update_counts_the_rows_that_it_touched(stage: Stage) -> None:
    rows = _rows(12)
    later = START + timedelta(days=1)
    moves: list[Values] = [
        {
            "of_number": row["number"],
            "known": row["id"] if row["number"] != 7 else "somebody else's",
            "published_at": later if row["number"] != 3 else None,
            "mac": b"moved",
        }
        for row in rows
    ]

    def updated(connection: Connection) -> tuple[int, list[tuple[object, ...]]]:
        insert_many(connection, _INSERT, rows)
        count = update_many(connection, _MOVE, moves)
        found = connection.execute(select(events.c.published_at, events.c.mac).order_by(events.c.number))
        return count, [tuple(row) for row in found]

    count, found = await stage.store._runner.write(updated)
    assert count == 11
    kept = (rows[6]["published_at"], rows[6]["mac"])
    assert found == [kept if number == 7 else (None if number == 3 else later, b"moved") for number in range(1, 13)]


async def test_a_row_that_lacks_a_parameter_is_refused(stage: Stage) -> None:
    rows = _rows(3)
    del rows[1]["mac"]

    def inserted(connection: Connection) -> None:
        insert_many(connection, _INSERT, rows)

    with pytest.raises(KeyError):
        await stage.store._runner.write(inserted)
    assert await stage.rows(select(events)) == []
