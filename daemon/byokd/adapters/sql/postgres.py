"""PostgreSQL as byokd uses it: one connection that writes and holds the claim, others that read."""

from collections.abc import Callable, Generator
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import LockNotAvailable, QueryCanceled
from psycopg.types.string import StrDumper
from sqlalchemy import Engine, ExceptionContext, QueuePool, create_engine, event

from byokd.adapters.sql.engine import READERS
from byokd.adapters.sql.runners import trouble_named
from byokd.ports import StoreUnavailableError
from byokd.settings import StoreSettings

T = TypeVar("T")
Driver = psycopg.Connection[tuple[Any, ...]]

_CLAIM = 0x62796F6B64
"""The advisory lock that means "a daemon writes here" in each database: `byokd` in ASCII."""

_GRACE_SECONDS = 5.0
"""A server whose own time limit has not ended a statement this much later will not answer any more."""

_AUTHORITIES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
"""The system's, on Debian and on Red Hat: the driver's own libraries look elsewhere."""

_ALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""The server notices within 25 s that a daemon's machine is gone, and its claim ends."""

_IDENTITY = "SELECT oid::bigint, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"


class PostgresDatabase:
    """See `Database`. The claim is an advisory lock of the connection that writes; with it, the claim ends.

    There is one such connection. When it is lost the next use makes another, which must take the claim again before
    anything is written; so what the lost one was doing has ended by then.
    """

    def __init__(self, settings: StoreSettings) -> None:
        """Take the settings; nothing is contacted yet."""
        self._settings = settings
        self._identity: int | None = None
        self.writer = _engine(self._connect_to_write, connections=1)
        self.reader = _engine(self._connect_to_read, connections=READERS)

    def take(self) -> None:
        """See `Database.take`."""
        with trouble_named(), self.writer.connect():
            pass

    def release(self) -> None:
        """See `Database.release`."""
        self.reader.dispose()
        self.writer.dispose()

    def confirm(self) -> None:
        """Nothing to do: every new connection is looked at, and an old one leads where it led."""

    def scrub(self) -> None:
        """Nothing to do. VACUUM would free the space of erased rows, not overwrite it, and the log keeps them too."""

    def _connect_to_read(self) -> Driver:
        return self._connect(self._make_reader)

    def _connect_to_write(self) -> Driver:
        return self._connect(self._make_writer)

    def _connect(self, make: Callable[[Driver], None]) -> Driver:
        connection = connect(self._settings)
        try:
            self._recognise(connection)
            make(connection)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_reader(self, connection: Driver) -> None:
        connection.commit()
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True

    def _make_writer(self, connection: Driver) -> None:
        connection.execute(_DURABLE)
        self._claim(connection)

    def _claim(self, connection: Driver) -> None:
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [_CLAIM])
        except (LockNotAvailable, QueryCanceled) as error:
            raise StoreUnavailableError(
                f"another process uses the database {connection.info.dbname}",
                hint="one daemon per database: stop the other one, or change store.url",
            ) from error

    def _recognise(self, connection: Driver) -> None:
        """See that it is the database that it was."""
        identity, encoding = connection.execute(_IDENTITY).fetchone() or (0, "")
        if encoding != "UTF8":
            raise StoreUnavailableError(
                f"the database {connection.info.dbname} has the encoding {encoding}, byokd needs UTF8",
                hint="make another one: createdb --template=template0 --encoding=UTF8",
            )
        if self._identity not in {None, identity}:
            raise StoreUnavailableError(
                f"the database {connection.info.dbname} was deleted or replaced while it was in use",
                hint="stop the daemon, see that the right database is there, and start again",
            )
        self._identity = identity


class _Text(StrDumper):
    """PostgreSQL keeps no NUL in text. None of ours has one, but what a vault says may: it must not stop a commit."""

    def dump(self, obj: str) -> Any:  # noqa: ANN401 - the driver's
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class _Bounded(Driver):
    """A connection that gives a server up that does not answer: its own time limits end what it still works on."""

    limit_seconds = 0.0

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:  # noqa: ANN401 - the driver's
        """Wait for an exchange with the server."""
        if not self.limit_seconds:
            return super().wait(gen, *args, **kwargs)
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, exchange: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = monotonic() + self.limit_seconds
        try:
            wanted = next(exchange)
            while True:
                ready = yield wanted
                if not ready and monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server did not answer in time")
                wanted = exchange.send(ready)
        except StopIteration as result:
            return result.value  # type: ignore[no-any-return]


def connect(settings: StoreSettings) -> Driver:
    """Connect to the server.

    Raises:
        psycopg.Error: it cannot be reached or refuses.
        StoreUnavailableError: the password cannot be read.
    """
    connection = _Bounded.connect(conninfo(settings), password=_password(settings.password_file))
    connection.limit_seconds = settings.statement_timeout.total_seconds() + _GRACE_SECONDS
    connection.adapters.register_dumper(str, _Text)
    return connection


def conninfo(settings: StoreSettings) -> str:
    """Give what libpq is told, but for the password."""
    named = conninfo_to_dict(settings.url)
    hosts = str(named["host"]).split(",")
    wanted: dict[str, str | int] = {
        "application_name": "byokd",
        "client_encoding": "utf8",
        "connect_timeout": max(2, round(settings.connect_timeout.total_seconds())),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        # As long as it takes to see by asking that the other machine is gone, when something is under way.
        "tcp_user_timeout": 25_000,
        "options": _options(settings),
        "sslmode": "disable",
        "gssencmode": "disable",
    }
    if len(hosts) > 1:
        wanted["target_session_attrs"] = "read-write"
    if settings.tls == "verify-full" or (settings.tls == "auto" and not all(map(_is_local, hosts))):
        wanted |= {"sslmode": "verify-full", "sslrootcert": _authorities(settings.ca_file)}
    return make_conninfo(settings.url, **wanted)


def _options(settings: StoreSettings) -> str:
    """Give what the server is told of each session, whatever is usual there."""
    told = {
        "timezone": "UTC",
        "statement_timeout": _milliseconds(settings.statement_timeout.total_seconds()),
        "lock_timeout": _milliseconds(settings.busy_timeout.total_seconds()),
        "idle_in_transaction_session_timeout": _milliseconds(settings.statement_timeout.total_seconds()),
        "idle_session_timeout": 0,
        **_ALIVE,
    }
    return " ".join(f"-c {name}={value}" for name, value in told.items())


def _milliseconds(seconds: float) -> int:
    # Nothing would mean for ever, and the server counts in 32 bits.
    return min(max(1, round(seconds * 1000)), 2**31 - 1)


def _is_local(host: str) -> bool:
    try:
        return host.startswith("/") or host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _authorities(ca_file: Path | None) -> str:
    if ca_file is not None:
        return str(ca_file)
    return next((str(place) for place in _AUTHORITIES if place.exists()), "system")


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailableError(
            "the file that holds the database's password cannot be read",
            hint="let the service's user read store.password_file; it is UTF-8 text",
        ) from error


def _engine(creator: Callable[[], Driver], *, connections: int) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=creator,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        # Parameters by position, as SQLite has them: `many` repeats a row's.
        paramstyle="format",
        # A connection that was lost while nobody used it costs nobody a transaction.
        pool_pre_ping=True,
        # Errors must not show what a statement wrote.
        hide_parameters=True,
    )
    event.listen(engine, "handle_error", _leave_out_values)
    return engine


def _leave_out_values(context: ExceptionContext) -> None:
    """Keep of an error only its first line: the lines below it show the row."""
    error, told = context.original_exception, context.sqlalchemy_exception
    if isinstance(error, psycopg.Error) and error.diag.message_primary is not None:
        error.args = (error.diag.message_primary,)
        if told is not None:
            told.args = (f"({type(error).__name__}) {error.diag.message_primary}",)
