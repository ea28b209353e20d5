"""Where transactions run: in a thread that writes and some that read, or right here."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from byokd.adapters.sql.engine import READERS
from byokd.adapters.sql.errors import is_dangling, unavailable
from byokd.ports import StaleError, StoreUnavailableError

P = ParamSpec("P")
T = TypeVar("T")


class Database(Protocol):
    """A database that several threads can use. Nothing is opened before it is used.

    Attributes:
        writer: gives connections for transactions that write; one thread uses it.
        reader: gives connections for transactions that only read, each of which sees one moment.
    """

    writer: Engine
    reader: Engine

    def take(self) -> None:
        """Claim the database for this process; nothing happens when it has it.

        Raises:
            StoreUnavailableError: another process has it, or it cannot be used.
        """
        ...

    def release(self) -> None:
        """Close all connections, then end the claim, if there is one."""
        ...

    def confirm(self) -> None:
        """Raise StoreUnavailableError unless it still is the database that was claimed."""
        ...

    def scrub(self) -> None:
        """See `Runner.scrub`."""
        ...


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
        StaleError: a row that another one was to refer to has vanished.
    """
    with trouble_named(), engine.begin() as connection:
        return transaction(connection)


@contextmanager
def trouble_named() -> Iterator[None]:
    """Raise a database's errors as those of the port, where they are known."""
    try:
        yield
    except IntegrityError as error:
        if is_dangling(error):
            raise StaleError("a row that this one refers to is gone") from error
        raise
    except (DBAPIError, sqlite3.Error) as error:
        if (trouble := unavailable(error)) is not None:
            raise trouble from error
        raise


async def _submit(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    try:
        running = asyncio.get_running_loop().run_in_executor(executor, work)
    except RuntimeError as error:
        raise _closed() from error
    return await running


def _closed() -> StoreUnavailableError:
    return StoreUnavailableError("the store is closed", hint="the service is stopping; ask again after its start")


class ThreadedRunner:
    """A database that is shared: one thread writes, a few read. Until `open` is called, every use raises."""

    def __init__(self, database: Database) -> None:
        self._is_open = self._is_closed = False
        self._opening = threading.Lock()
        self._database = database
        self.writer = database.writer
        self._reader = database.reader
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    def open(self, make_usable: Callable[[], None]) -> None:
        """Allow use, once the database is there, was claimed and has the right schema. Does nothing when it is open.

        Args:
            make_usable: sees to that, and takes the claim, which is kept until `close`. When it raises, the claim
                ends, so that somebody else can do what is missing, and `open` can be called again.
        """
        # A cancelled caller may have left another thread here.
        with self._opening:
            if self._is_closed:
                raise _closed()
            if self._is_open:
                return
            try:
                make_usable()
            except BaseException:
                self._database.release()
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
        await _submit(self._writing, self._database.confirm)

    async def scrub(self) -> None:
        """See `Runner.scrub`."""
        await _submit(self._writing, self._database.scrub)

    async def close(self) -> None:
        """See `Runner.close`. Closing the last connection removes SQLite's write-ahead log."""
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
        with self._opening:
            self._is_closed = True
            self._database.release()


class InlineRunner:
    """SQLite in memory, run in the caller's thread without giving way: time does not pass in a transaction."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine, of one connection, which is disposed of by `close`."""
        self.writer = engine
        # Kept: to take it from the pool and give it back costs as much as a short transaction.
        self._connection = self.writer.connect()
        self._closed = False

    async def write(self, transaction: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Runner.write`."""
        if self._closed:
            raise _closed()
        with trouble_named(), self._connection.begin():
            return transaction(self._connection, *args, **kwargs)

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
        self._connection.close()
        self.writer.dispose()
