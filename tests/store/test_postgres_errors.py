"""What each kind of trouble with PostgreSQL is called. No text of the driver or the server gets through."""

import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from byokd.adapters.sql.errors import is_dangling, is_duplicate, unavailable
from byokd.adapters.sql.postgres_errors import _CLASSES, _CONNECTING, _STATES

STATES = {
    "25006": "read-only",
    "25P03": "was lost",
    "25P04": "was lost",
    "3D000": "does not exist",
    "3F000": "does not have the schema",
    "40001": "in the way",
    "40P01": "in the way",
    "42501": "lacks a right",
    "42703": "does not have the schema",
    "42P01": "does not have the schema",
    "53100": "disk of the database is full",
    "53200": "out of memory",
    "53300": "no connection left",
    "55P03": "locked by another process",
    "57014": "took too long",
    "57P01": "was lost",
    "57P02": "was lost",
    "57P03": "starting, stopping or recovering",
    "57P04": "does not exist",
    "57P05": "was lost",
    "XX001": "damaged",
    "XX002": "damaged",
}
OF_CLASSES = {
    "08006": "was lost",
    "28000": "refuses the user",
    "28P01": "refuses the user",
    "53000": "ran out of something",
    "58030": "fails to read or write",
    "XX000": "failed inside",
}
CONNECTING = {
    'FATAL:  password authentication failed for user "secret"': "refuses the user",
    "fe_sendauth: no password supplied": "refuses the user",
    'FATAL:  Peer authentication failed for user "secret"': "refuses the user",
    'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "secret"': "refuses the user",
    'FATAL:  role "secret" does not exist': "refuses the user",
    'FATAL:  permission denied for database "secret"': "refuses the user",
    'FATAL:  database "secret" does not exist': "does not exist",
    "FATAL:  the database system is starting up": "starting, stopping",
    "FATAL:  the database system is shutting down": "starting, stopping",
    "FATAL:  the database system is not accepting connections": "starting, stopping",
    "FATAL:  the database system is in recovery mode": "starting, stopping",
    "FATAL:  sorry, too many clients already": "no connection left",
    "FATAL:  remaining connection slots are reserved": "no connection left",
    "session is read-only": "read-only",
    "server is in hot standby mode": "read-only",
    "SSL error: certificate verify failed": "TLS failed",
    "server does not support SSL, but SSL was required": "TLS failed",
    'connection to server at "10.0.0.1", port 5432 failed: Connection refused': "cannot be reached",
    "Is the server running locally? No such file or directory does not exist": "cannot be reached",
    "connection timeout expired": "cannot be reached",
}


def _of_state(state: str) -> DBAPIError:
    return OperationalError("INSERT secret", {}, errors.lookup(state)("secret"))


@pytest.mark.parametrize(("state", "said"), (STATES | OF_CLASSES).items())
def test_a_state_is_named(state: str, said: str) -> None:
    trouble = unavailable(_of_state(state))
    assert trouble is not None
    assert said in str(trouble)
    assert trouble.hint
    assert "secret" not in f"{trouble} {trouble.hint}"


@pytest.mark.parametrize(("text", "said"), CONNECTING.items())
def test_a_failed_connection_is_named(text: str, said: str) -> None:
    trouble = unavailable(OperationalError("secret", {}, errors.OperationalError(text)))
    assert trouble is not None
    assert said in str(trouble)
    assert trouble.hint
    assert "secret" not in f"{trouble} {trouble.hint}"


def test_every_kind_is_tried() -> None:
    assert STATES.keys() == _STATES.keys()
    assert {state[:2] for state in OF_CLASSES} == _CLASSES.keys()
    assert [part for part, _ in _CONNECTING if not any(part in text for text in CONNECTING)] == []


@pytest.mark.parametrize("state", ["22P02", "22003", "23502", "23514", "42601"])
def test_a_defect_is_no_trouble_of_the_database(state: str) -> None:
    assert unavailable(_of_state(state)) is None


def test_rows_that_collide_are_told_apart() -> None:
    duplicate, dangling, neither = (
        IntegrityError("secret", {}, errors.lookup(state)("secret")) for state in ("23505", "23503", "23502")
    )
    assert (is_duplicate(duplicate), is_dangling(duplicate)) == (True, False)
    assert (is_duplicate(dangling), is_dangling(dangling)) == (False, True)
    assert not is_duplicate(neither)
    assert not is_dangling(neither)
