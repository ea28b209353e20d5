"""Check values of the service's own keys, by which a wrong key under a known id is told from the right one."""

from collections.abc import Mapping

from sqlalchemy import Connection, insert, select

from byokd.adapters.sql.tables import service_keys
from byokd.ports import StaleError


def service_key_checks(connection: Connection) -> Mapping[tuple[str, str], bytes]:
    """See `Store.service_key_checks`."""
    return {(row.kind, row.id): row.check_value for row in connection.execute(select(service_keys))}


def record_service_key_checks(connection: Connection, checks: Mapping[tuple[str, str], bytes]) -> None:
    """See `Store.record_service_key_checks`."""
    known = service_key_checks(connection)
    differing = sorted(key for key, value in checks.items() if known.get(key, value) != value)
    if differing:
        names = ", ".join(f"{kind}.{id_}" for kind, id_ in differing)
        raise StaleError(f"other check values are recorded for {names}")
    rows = [
        {"kind": kind, "id": id_, "check_value": value}
        for (kind, id_), value in checks.items()
        if (kind, id_) not in known
    ]
    if rows:
        connection.execute(insert(service_keys), rows)
