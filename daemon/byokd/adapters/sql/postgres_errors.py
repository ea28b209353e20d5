"""What a failing PostgreSQL means, in words for people. No SQL, values or driver texts get into the messages."""

from sqlalchemy.exc import DBAPIError, OperationalError

from byokd.ports import StoreUnavailableError

DUPLICATE = "23505"
DANGLING = "23503"

_LOST = (
    "the connection to the database was lost",
    "what was being written is there whole or not at all; byokd connects again by itself",
)
_UNREACHED = (
    "the database server cannot be reached",
    "look whether it runs, and whether store.url names the right host and port",
)
_GOING = (
    "the database server is starting, stopping or recovering",
    "wait for it; byokd connects again by itself",
)
_REFUSED = (
    "the database server refuses the user or its password",
    "look at the user in store.url, at store.password_file and at the server's pg_hba.conf",
)
_MISSING = ("the database does not exist", "make it, owned by the service's user, or change store.url")
_SCHEMA = ("the database does not have the schema of this version", "run `byokd db upgrade`")
_CROWDED = ("the database server has no connection left", "byokd needs three: raise max_connections or end others")
_READ_ONLY = (
    "the database cannot be written: it is read-only",
    "name the primary server, not a standby, in store.url; see default_transaction_read_only",
)
_UNTRUSTED = (
    "the database server cannot be trusted: TLS failed",
    "look at the server's certificate and name, and at store.ca_file and store.tls",
)
_COLLISION = ("another transaction was in the way", "byokd does it again by itself; end what else writes the tables")
_DAMAGED = ("the database is damaged", "stop the service, keep a copy of the files and restore the last backup")

_STATES = {
    "25006": _READ_ONLY,
    "3D000": _MISSING,
    "3F000": _SCHEMA,
    "42P01": _SCHEMA,
    "42703": _SCHEMA,
    "42501": (
        "the database's user lacks a right",
        "let the service's user own the database and its tables (ALTER DATABASE ... OWNER TO ...)",
    ),
    "40001": _COLLISION,
    "40P01": _COLLISION,
    "53100": ("the disk of the database is full", "free some space; nothing was lost"),
    "53200": ("the database ran out of memory", "give the database server more memory"),
    "53300": _CROWDED,
    "55P03": (
        "the database is locked by another process",
        "end the process that holds it (a backup, a shell), or raise store.busy_timeout",
    ),
    "57014": (
        "the database took too long over a statement",
        "look what keeps the server busy, or raise store.statement_timeout",
    ),
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": _GOING,
    "57P04": _MISSING,
    "57P05": _LOST,
    "25P03": _LOST,
    "25P04": _LOST,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
_CLASSES = {
    "08": _LOST,
    "28": _REFUSED,
    "53": ("the database server ran out of something", "look at the server's log"),
    "58": ("the disk of the database fails to read or write", "look at the server's and the kernel's log for the disk"),
    "XX": ("the database server failed inside", "look at the server's log"),
}
_CONNECTING = (
    ("password", _REFUSED),
    ("authentication", _REFUSED),
    ("pg_hba.conf", _REFUSED),
    ("role ", _REFUSED),
    ("starting up", _GOING),
    ("shutting down", _GOING),
    ("not accepting connections", _GOING),
    ("recovery", _GOING),
    ("too many", _CROWDED),
    ("remaining connection slots", _CROWDED),
    ("read-only", _READ_ONLY),
    ("hot standby", _READ_ONLY),
    ("certificate", _UNTRUSTED),
    ("SSL", _UNTRUSTED),
    ("does not exist", _MISSING),
    ("permission denied for database", _REFUSED),
)
"""Parts of the texts of failed connections: libpq gives no code for them. What is not known is `_UNREACHED`."""


def unavailable(error: DBAPIError) -> StoreUnavailableError | None:
    """Say that the database cannot be used and why; None when the error is about the statement or its values."""
    state = getattr(error.orig, "sqlstate", None)
    known: tuple[str, str] | None
    if state is not None:
        known = _STATES.get(state) or _CLASSES.get(state[:2])
    elif error.connection_invalidated:
        known = _LOST
    elif isinstance(error, OperationalError):
        known = _of_connecting(str(error.orig))
    else:
        known = None
    return None if known is None else StoreUnavailableError(known[0], hint=known[1])


def _of_connecting(text: str) -> tuple[str, str]:
    # Where the server's socket does not exist, that is said in the same words as of a database.
    if "No such file" in text or "Connection refused" in text:
        return _UNREACHED
    return next((known for part, known in _CONNECTING if part in text), _UNREACHED)
