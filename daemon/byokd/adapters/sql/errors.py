"""What a failing database means, in words for people. No SQL, values or driver texts get into the messages."""

import sqlite3

from sqlalchemy.exc import DBAPIError, IntegrityError

from byokd.adapters.sql import postgres_errors
from byokd.ports import StoreUnavailableError

_SCHEMA_HINT = "run `byokd db upgrade`"

_SQLITE: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: (
        "the database is locked by another process",
        "end the process that holds it (a backup, a shell), or raise store.busy_timeout",
    ),
    sqlite3.SQLITE_LOCKED: (
        "the database is locked by another process",
        "end the process that holds it (a backup, a shell), or raise store.busy_timeout",
    ),
    sqlite3.SQLITE_READONLY: (
        "the database cannot be written: it is read-only",
        "let the service's user write the file and its directory, on a file system mounted read-write",
    ),
    sqlite3.SQLITE_FULL: ("the disk of the database is full", "free some space; nothing was lost"),
    sqlite3.SQLITE_IOERR: (
        "the disk of the database fails to read or write",
        "look at the kernel's log for the disk; do not keep the database on a network file system",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the database cannot be opened",
        "let the service's user write the directory of the file; it is named by store.url",
    ),
    sqlite3.SQLITE_PERM: (
        "the database cannot be opened: permission denied",
        "let the service's user read and write the file; it is named by store.url",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged",
        "stop the service, keep a copy of the files and restore the last backup",
    ),
    sqlite3.SQLITE_NOTADB: (
        "the file is not a database",
        "look whether store.url names the right file; otherwise restore the last backup",
    ),
    sqlite3.SQLITE_NOMEM: ("the database ran out of memory", "give the service more memory"),
    # What is left under the general code in well-formed statements is a missing table or column.
    sqlite3.SQLITE_ERROR: ("the database does not have the schema of this version", _SCHEMA_HINT),
}


def unavailable(error: DBAPIError | sqlite3.Error) -> StoreUnavailableError | None:
    """Say that the database cannot be used and why; None when the error is about the statement or its values."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError) and not isinstance(cause, sqlite3.Error):
        return postgres_errors.unavailable(error)
    code = getattr(cause, "sqlite_errorcode", None)
    known = _SQLITE.get(code & 0xFF) if isinstance(code, int) else None
    return None if known is None else StoreUnavailableError(known[0], hint=known[1])


def wrong_schema(found: str | None, wanted: str) -> StoreUnavailableError:
    """Say that the schema is not this version's."""
    if found is None or found < wanted:
        return StoreUnavailableError(
            f"the database has schema {found or 'none'}, this version needs {wanted}", hint=_SCHEMA_HINT
        )
    return StoreUnavailableError(
        f"the database has schema {found}, this version knows only {wanted}",
        hint="install the newer version of byokd again, or restore the backup from before the upgrade",
    )


def is_duplicate(error: IntegrityError) -> bool:
    """Whether a row could not be written because there is one with the same key already."""
    duplicate = {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE, postgres_errors.DUPLICATE}
    return _code(error) in duplicate


def is_dangling(error: IntegrityError) -> bool:
    """Whether a row would refer to one that is not there, or one that is referred to would go."""
    return _code(error) in {sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, postgres_errors.DANGLING}


def _code(error: IntegrityError) -> object:
    return getattr(error.orig, "sqlite_errorcode", None) or getattr(error.orig, "sqlstate", None)
