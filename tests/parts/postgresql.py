"""A real PostgreSQL of one's own: the server of a Python wheel, in a directory that goes with it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from parts.processes import free_port
from parts.registry import postgresql_programs

NOBODY = 65534
"""PostgreSQL refuses to run as root."""

PATIENCE_SECONDS = 30
POLL_SECONDS = 0.01

# What has to survive here is a crash of the server, not of the machine.
SETTINGS = {"fsync": "off", "max_connections": "60", "shared_buffers": "16MB", "autovacuum": "off", "jit": "off"}
WATCH = 'read _; kill -QUIT "$1"; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2"'
"""Ends the server and removes its directory when the tests were killed: their end of the pipe is closed then.

Both are in sessions of their own, because who kills tests often kills their whole group."""

ACCESS = """\
local all all trust
host all locked 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
ROLES = """\
CREATE ROLE byokd LOGIN;
CREATE ROLE locked LOGIN PASSWORD 'open sesame';
GRANT byokd TO locked;
"""


class PostgreSQL:
    """One server that can be stopped, killed and started again, always at the same address.

    `byokd` is the role that owns every database made here and may do nothing else; `locked` is the same, with a
    password.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._programs = _reachable(directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._templates: set[str] = set()
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--no-sync", "--no-instructions", "-A", "trust",
            "--locale=C.UTF-8", "--encoding=UTF8", "--set=log_min_messages=error")  # fmt: skip
        (self._data / "pg_hba.conf").write_text(ACCESS)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def url(self, database: str, *, user: str = "byokd") -> str:
        """Give the URL over the Unix socket."""
        return f"postgresql://{user}@/{database}?host={self.directory}&port={self.port}"

    def tcp_url(self, database: str, *, user: str = "byokd") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self, more: Mapping[str, str] | None = None) -> None:
        """Start, and wait until it can be used. `more` are settings for this time."""
        settings = SETTINGS | dict(more or {})
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [self._programs / "postgres", "-D", self._data, "-k", self.directory, "-h", "127.0.0.1",
            "-p", str(self.port), *options]  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **_account())
        self._watcher = subprocess.Popen(
            ["sh", "-c", WATCH, "watch", str(self._process.pid), self.directory],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"PostgreSQL does not start:\n{self.log}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop in good order: its clients are sent away."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, as a crash of the server does: what was committed is there after the next start."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or self._watcher is None:
            return
        self._watcher.kill()
        self._watcher.communicate()
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """Do something as the administrator; give the rows."""
        with psycopg.connect(self.url(database, user="postgres"), autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def backends(self, database: str) -> list[int]:
        """Give the process ids of the connections to a database."""
        rows = self.execute(f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' ORDER BY pid")  # noqa: S608
        return [pid for (pid,) in rows if isinstance(pid, int)]

    @contextmanager
    def database(self, *, template: str = "template1") -> Iterator[str]:
        """Make a database that the role `byokd` owns; give its name. It goes in the end, whoever still uses it."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER byokd")
        try:
            yield name
        finally:
            if self._process is None:
                self.start()
            self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def template(self) -> str:
        """Give the name of a database with byokd's schema and nothing in it: migrating takes longer than most tests."""
        name = "byokd_template"
        if name not in self._templates:
            from byokd.adapters.sql import upgrade_database  # noqa: PLC0415 - the server itself needs nothing of byokd
            from byokd.settings import StoreSettings  # noqa: PLC0415

            self.execute(f"CREATE DATABASE {name} OWNER byokd")
            upgrade_database(StoreSettings(url=self.url(name)))
            self._templates.add(name)
        return name

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres", user="postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run([self._programs / name, *arguments], capture_output=True, check=False, **_account())
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """Run a server of one's own; it and all it kept are gone in the end."""
    with tempfile.TemporaryDirectory(prefix="byokd-pg-") as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, -1)
        server = PostgreSQL(Path(name))
        server.start()
        try:
            server.execute(ROLES)
            yield server
        finally:
            server.kill()


@contextmanager
def postgresql_database(server: PostgreSQL, *, with_schema: bool = True) -> Iterator[str]:
    """Give the URL of an empty database for one test, with byokd's schema or without."""
    with server.database(template=server.template() if with_schema else "template1") as name:
        yield server.url(name)


def _account() -> dict[str, object]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}


def _reachable(directory: Path) -> Path:
    """Give the directory of the programs, copied where the user they run as cannot get at them."""
    programs = postgresql_programs()
    assert programs is not None
    try:
        subprocess.run([programs / "postgres", "--version"], capture_output=True, check=True, **_account())
    except (PermissionError, subprocess.CalledProcessError):
        return Path(shutil.copytree(programs.parent, directory / "programs")) / "bin"
    return programs
