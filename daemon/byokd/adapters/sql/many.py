"""Statements for many rows, as the driver takes them.

SQLAlchemy's own path looks up each parameter of each row by several names, and asks anew for each how it is to be
converted; and the driver gives the interpreter's lock away for every row and waits to have it back. Both together were
a third of the time in which a verdict reaches thousands of accounts. Here a statement is compiled once, rows are
converted column by column, and what is inserted goes a hundred rows at a time. Left out: defaults, and columns that
only some of the rows have.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, LargeBinary, Update
from sqlalchemy.types import TypeEngine

from byokd.adapters.sql.rows import Values

_SIZES = (100, 10, 1)
"""Rows inserted by one statement. Few sizes, because databases keep the plans of texts that they know, and of at most
100: some databases take no more than 32,766 parameters."""

Convert = Callable[[Any], Any]


def insert_many(connection: Connection, statement: Insert, rows: Sequence[Values]) -> None:
    """Insert rows.

    Args:
        connection: the transaction.
        statement: one that lives as long as the module that it is in: what was compiled is kept.
        rows: the statement's parameters by name, all of the same names; one row at least.
    """
    compiled = _compiled(statement, connection.dialect, tuple(rows[0]))
    left = compiled.parameters(rows)
    for size in _SIZES:
        while len(left) >= size:
            connection.exec_driver_sql(compiled.text_of(size), tuple(chain.from_iterable(left[:size])))
            left = left[size:]


def update_many(connection: Connection, statement: Update, rows: Sequence[Values]) -> int:
    """Run an update for each of the rows, as above; give how many rows of the table were touched in all."""
    compiled = _compiled(statement, connection.dialect, tuple(rows[0]))
    return connection.exec_driver_sql(compiled.text, compiled.parameters(rows)).rowcount


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement for one row: its parameters in order, by name, and what converts each for the driver."""

    text: str
    names: Sequence[str]
    converts: Sequence[Convert | None]

    def parameters(self, rows: Sequence[Values]) -> list[tuple[Any, ...]]:
        """Give the parameters of each row as the driver takes them."""
        return list(zip(*map(self._column, self.names, self.converts, [rows] * len(self.names)), strict=True))

    def text_of(self, count: int) -> str:
        """Give the text that inserts so many rows."""
        head, values, row = self.text.partition(" VALUES ")
        return self.text if count == 1 else head + values + ", ".join([row] * count)

    @staticmethod
    def _column(name: str, convert: Convert | None, rows: Sequence[Values]) -> Iterator[Any]:
        """Convert a column; a value that the row before it has too, such as the time of it all, only once."""
        values = map(itemgetter(name), rows)
        if convert is None:
            yield from values
            return
        last, converted = object(), None
        for value in values:
            if value is not last:
                last, converted = value, convert(value)
            yield converted


@lru_cache(maxsize=64)
def _compiled(statement: Insert | Update, dialect: Dialect, given: tuple[str, ...]) -> _Compiled:
    # Inline: numbers that the database gives are not asked for.
    compiled = statement.inline().compile(dialect=dialect, column_keys=list(given))
    names = compiled.positiontup or ()
    converts = (_convert(compiled.binds[name].type, dialect) for name in names)
    return _Compiled(str(compiled), tuple(names), tuple(converts))


def _convert(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    # The drivers take bytes as they are; what others need them wrapped in costs more than to write them.
    return None if isinstance(kind, LargeBinary) else kind.dialect_impl(dialect).bind_processor(dialect)
