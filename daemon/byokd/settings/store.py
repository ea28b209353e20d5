"""The database."""

from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from byokd.settings.group import Group
from byokd.settings.kinds import AbsolutePath, Duration, StoreUrl, Switch


class StoreSettings(Group):
    """The database."""

    url: StoreUrl = "sqlite:////var/lib/byokd/byokd.db"
    """`sqlite:///` and a path (three slashes for a relative one, four for an absolute one), or
    `postgresql://user@host:port/dbname`, or `postgresql://user@/dbname?host=/run/postgresql` for a Unix socket. Several
    hosts, separated by commas, are tried in order for the one that can be written."""

    password_file: AbsolutePath | None = None
    """File that holds the password for PostgreSQL, as UTF-8; a trailing line break is dropped. Checked before the
    start, and read anew for every connection."""

    tls: Literal["auto", "verify-full", "off"] = "auto"
    """TLS to PostgreSQL. `verify-full`: always, with the server's certificate and name checked. `auto`: the same, but
    for Unix sockets and loopback addresses, where nobody is in between."""

    ca_file: AbsolutePath | None = None
    """PEM file of the authorities that may vouch for PostgreSQL, instead of the system's. Checked before the start."""

    connect_timeout: Duration = timedelta(seconds=5)
    """For a connection to PostgreSQL, TLS and authentication included; whole seconds, at least 2."""

    statement_timeout: Duration = timedelta(seconds=30)
    """For one statement of PostgreSQL: a thousand times what the longest takes, so beyond it something is wrong. A
    server that says nothing for 5 s more is given up."""

    busy_timeout: Duration = timedelta(seconds=5)
    """How long a statement waits for another process (a backup, `byokd db`) to release the database; with PostgreSQL
    also for locks, and for another daemon's connection to end."""

    upgrade_at_start: Switch = True
    """Bring an older schema up to date when the daemon starts. Off: the start is refused until `byokd db upgrade`."""

    history_retention: Duration = timedelta(days=90)
    """How long published events are kept: a quarter, for questions that come late. Unpublished ones and the last of
    each account are kept on, for the bus."""

    audit_interval: Duration = timedelta(hours=1)
    """How often the heads of the signed history are published, when something was recorded since: what is rewritten
    later than that differs from what the bus was told."""

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if self.tls == "off" and self.ca_file is not None:
            raise ValueError("ca_file is of TLS, and tls is off")
        if self.path is None and find_spec("psycopg") is None:
            raise ValueError("PostgreSQL needs its driver, which is not installed: pip install 'byokd[postgresql]'")
        return self

    @property
    def path(self) -> Path | None:
        """The path of the database file; None with PostgreSQL."""
        found = self.url.removeprefix("sqlite:///")
        return None if found == self.url else Path(found).absolute()
