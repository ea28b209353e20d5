"""A database file as a threaded runner uses it."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine

from byokd.adapters.sql.claim import Claim
from byokd.adapters.sql.engine import reader_engine, writer_engine
from byokd.adapters.sql.runners import trouble_named

_SCRUB_PATIENCE_MS = 100
"""Our own readers are done sooner; the writer must not stand still for somebody's backup."""


class SqliteFile:
    """See `Database`. The directory must exist."""

    def __init__(self, path: Path, *, busy_timeout: timedelta) -> None:
        """Take the path; nothing is opened yet."""
        self._claim = Claim(path)
        self.writer = writer_engine(path, busy_timeout=busy_timeout)
        self.reader = reader_engine(path, busy_timeout=busy_timeout)

    def take(self) -> None:
        """See `Database.take`."""
        self._claim.take()

    def release(self) -> None:
        """See `Database.release`. Closing the last connection removes the write-ahead log."""
        self.reader.dispose()
        self.writer.dispose()
        self._claim.release()

    def confirm(self) -> None:
        """See `Database.confirm`."""
        self._claim.confirm()

    def scrub(self) -> None:
        """Empty the write-ahead log into the file. While a reader looks at it, that is left to a later time."""
        _empty_log(self.writer)


def _empty_log(engine: Engine) -> None:
    """Move the write-ahead log into the file and cut it to nothing, unless a reader holds it for longer."""
    with trouble_named(), closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute(f"PRAGMA busy_timeout = {_SCRUB_PATIENCE_MS}").fetchone()
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {patience:d}").fetchone()
