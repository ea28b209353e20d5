"""Where transactions run: in a thread that writes and some that read, or right here."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from byokd.adapters.sql.claim import Claim
from byokd.adapters.sql.engine import READERS, memory_engine, reader_engine, writer_engine
from byokd.adapters.sql.errors import unavailable
from byokd.ports import StoreUnavailableError

P = ParamSpec("P")
T = TypeVar("T")

_SCRUB_PATIENCE_MS = 100
"""Our own readers are done sooner; the writer must not stand still for somebody's backup."""


class Runner(Protocol):
    """Runs each transaction whole: committed when the function returns, rolled back when it raises.

    Obligations: database trouble surfaces as StoreUnavailableError. Cancelling a waiting caller leaves the transaction
    to end by itself, one way or the other, and the runner usable. After `close` every call raises
    StoreUnavailableError.
    """

    async def write(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a transaction that may write. Writers run one after the other."""
        ...

    async def read(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a transaction that only reads and sees one moment. It waits for no writer."""
        ...

    async def confirm(self) -> None:
        """Raise StoreUnavailableError unless the database still is the one that was opened."""
        ...

    async def scrub(self) -> None:
        """Drop erased bytes from wherever the database still keeps them, as far as that is possible now."""
        ...

    async def close(self) -> None:
        """Let running transactions end and close all connections."""
        ...


def transact(engine: Engine, transaction: Callable[[Connection], T]) -> T:
    """Run a transaction in this thread.

    Raises:
        StoreUnavailableError: the database cannot be used.
    """
    with _trouble_named(), engine.begin() as connection:
        return transaction(connection)


@contextmanager
def _trouble_named() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        if (trouble := unavailable(error)) is not None:
            raise trouble from error
        raise


def _empty_log(engine: Engine) -> None:
    """Move the write-ahead log into the file and cut it to nothing, unless a reader holds it for longer."""
    with _trouble_named(), closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute(f"PRAGMA busy_timeout = {_SCRUB_PATIENCE_MS}").fetchone()
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {patience:d}").fetchone()


async def _submit(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    try:
        running = asyncio.get_running_loop().run_in_executor(executor, work)
    except RuntimeError as error:
        raise _closed() from error
    return await running


def _closed() -> StoreUnavailableError:
    return StoreUnavailableError("the store is closed", hint="the service is stopping; ask again after its start")


class ThreadedRunner:
    """SQLite in a file: one thread writes, a few read. Until `open` is called, every use raises."""

    def __init__(self, path: Path, *, busy_timeout: timedelta) -> None:
        self._is_open = self._is_closed = False
        self._opening = threading.Lock()
        self._claim = Claim(path)
        self.writer = writer_engine(path, busy_timeout=busy_timeout)
        self._reader = reader_engine(path, busy_timeout=busy_timeout)
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    def open(self, make_usable: Callable[[Claim], None]) -> None:
        """Allow use, once the file was claimed, is there and has the right schema. Does nothing when it is open.

        Args:
            make_usable: takes the claim, which is kept until `close`, and sees to the rest. When it raises, the claim
                ends, so that somebody else can do what is missing, and `open` can be called again.
        """
        # A cancelled caller may have left another thread here.
        with self._opening:
            if self._is_closed:
                raise _closed()
            if self._is_open:
                return
            try:
                make_usable(self._claim)
            except BaseException:
                self._claim.release()
                raise
            self._is_open = True

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("the store is not open yet", hint="wait for the service to become ready")

    async def write(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Runner.write`. Waiting transactions keep their order."""
        self._check_open()
        return await _submit(
            self._writing, lambda: transact(self.writer, lambda connection: transaction(connection, *args, **kwargs))
        )

    async def read(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Runner.read`."""
        self._check_open()
        return await _submit(
            self._reading, lambda: transact(self._reader, lambda connection: transaction(connection, *args, **kwargs))
        )

    async def confirm(self) -> None:
        """See `Runner.confirm`."""
        self._check_open()
        await _submit(self._writing, self._claim.confirm)

    async def scrub(self) -> None:
        """Empty the write-ahead log into the file. While a reader looks at it, that is left to a later time."""
        await _submit(self._writing, lambda: _empty_log(self.writer))

    async def close(self) -> None:
        """See `Runner.close`. Closing the last connection removes the write-ahead log."""
        try:
            closing_down = asyncio.get_running_loop().run_in_executor(self._writing, self._dispose)
        except RuntimeError:
            return
        # From here on nothing more is taken on, so the work just handed in is the writer's last.
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)
        await closing_down
        self._writing.shutdown(wait=True)

    def _dispose(self) -> None:
        self._reading.shutdown(wait=True)
        self._reader.dispose()
        self.writer.dispose()
        with self._opening:
            self._is_closed = True
            self._claim.release()


class InlineRunner:
    """SQLite in memory, run in the caller's thread without giving way: time does not pass in a transaction."""

    def __init__(self) -> None:
        self.writer = memory_engine()
        self._closed = False

    async def write(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Runner.write`."""
        if self._closed:
            raise _closed()
        return transact(self.writer, lambda connection: transaction(connection, *args, **kwargs))

    async def read(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Runner.read`."""
        return await self.write(transaction, *args, **kwargs)

    async def confirm(self) -> None:
        """Nothing to do: nobody else can reach it."""

    async def scrub(self) -> None:
        """Nothing to do: there is no log."""

    async def close(self) -> None:
        """See `Runner.close`. The data is gone."""
        self._closed = True
        self.writer.dispose()
