"""A database seen from outside: what it is, who uses it, and what has to be reachable because of it."""

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Connection, func, select, text

from byokd.adapters.sql import schema
from byokd.adapters.sql.engine import check_directory
from byokd.adapters.sql.plight import plight
from byokd.adapters.sql.read_only import open_guest
from byokd.adapters.sql.runners import transact
from byokd.adapters.sql.tables import accounts, watches
from byokd.adapters.sql.watches import IN_USE
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.ports.examining import StoreLook, WatchedVault
from byokd.settings import StoreSettings

SAMPLE = 5
"""Vaults to look at: enough to tell our own trouble from one customer's."""

TENANTS = 3
"""Tenants to ask for a token, of each identity: one that threw us out must not speak for all."""

_LOCKS = Path("/proc/locks")

_CLAIMANT = text(
    # The advisory lock of postgres.py, in the two halves in which the server shows it.
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 98 AND objid = 2037345124 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_USING = (
    select(watches.c.identity, watches.c.tenant, func.min(watches.c.host).label("host"))
    .where(IN_USE)
    .group_by(watches.c.identity, watches.c.tenant)
)
_VAULTS = select(watches.c.host, func.min(watches.c.tenant).label("tenant")).where(IN_USE).group_by(watches.c.host)


def inspect_store(settings: StoreSettings) -> StoreLook:
    """Look at a database, whoever uses it; nothing is written, made or locked.

    Raises:
        StoreUnavailableError: it cannot be read, or not be made where it has to be.
    """
    path = settings.path
    if path is not None:
        check_directory(path)
        if not path.exists():
            return StoreLook(str(path), None, schema.HEAD, None)
    guest = open_guest(settings)
    try:
        return transact(guest.engine, lambda connection: _look(connection, settings))
    finally:
        guest.engine.dispose()


def _look(connection: Connection, settings: StoreSettings) -> StoreLook:
    path = settings.path
    place = urlsplit(settings.url).hostname or "the server" if path is None else str(path)
    found = schema.current(connection)
    holder = _claimant(connection) if path is None else _locker(Path(f"{os.path.realpath(path)}.lock"))
    exposed = None if path is None else _exposed(path)
    if found != schema.HEAD:
        return StoreLook(place, found, schema.HEAD, holder, exposed)
    known = set(connection.scalars(select(watches.c.identity).where(IN_USE).distinct()))
    rows = connection.execute(_VAULTS.order_by(func.random()).limit(SAMPLE))
    return StoreLook(
        place=place,
        schema=found,
        needed=schema.HEAD,
        holder=holder,
        exposed=exposed,
        accounts=connection.scalar(select(func.count()).select_from(accounts)) or 0,
        identities=frozenset(map(IdentityName, known)),
        vaults=connection.scalar(select(func.count(watches.c.host.distinct())).where(IN_USE)) or 0,
        sample=tuple(WatchedVault(VaultHost(row.host), TenantId(row.tenant)) for row in rows),
        using=_using(connection),
        plight=plight(connection),
    )


def _using(connection: Connection) -> dict[IdentityName, tuple[WatchedVault, ...]]:
    found: dict[IdentityName, tuple[WatchedVault, ...]] = {}
    for row in connection.execute(_USING.order_by(func.random())):
        others = found.get(IdentityName(row.identity), ())
        if len(others) < TENANTS:
            found[IdentityName(row.identity)] = (*others, WatchedVault(VaultHost(row.host), TenantId(row.tenant)))
    return found


def _claimant(connection: Connection) -> str | None:
    pid = connection.scalar(_CLAIMANT)
    return None if pid is None else f"the server's process {pid}"


def _locker(lock: Path) -> str | None:
    """Say who locks a file, as the kernel lists it: trying the lock would keep a daemon from taking it."""
    try:
        wanted = lock.stat()
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # "1: FLOCK  ADVISORY  WRITE 4242 08:01:1835016 0 EOF"; those who wait have an arrow behind the number.
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(wanted.st_ino):  # noqa: PLR2004
            return f"process {words[4]}"
    return None


def _exposed(path: Path) -> str | None:
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"others than its owner may read {path} (mode {mode:04o})" if mode & (stat.S_IRWXG | stat.S_IRWXO) else None
