"""Vaults that fail or throttle: what a restart needs to leave them alone for as long as it would have been."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from byokd.adapters.sql.tables import vaults
from byokd.domain.identifiers import VaultHost
from byokd.domain.vocabulary import Reason
from byokd.records import Failing, HeldVault

_FAILING = select(vaults).where(vaults.c.failing_reason.is_not(None))
_RECORD = update(vaults).where(vaults.c.host == bindparam("vault"), vaults.c.epoch == bindparam("held"))


def failing_vaults(connection: Connection) -> Mapping[VaultHost, Failing]:
    """See `Store.failing_vaults`."""
    return {
        VaultHost(row.host): Failing(
            Reason(row.failing_reason), timedelta(milliseconds=row.backoff_ms), row.next_try_at
        )
        for row in connection.execute(_FAILING)
    }


def record_failing(connection: Connection, found: Mapping[HeldVault, Failing | None]) -> None:
    """See `Store.record_failing`."""
    rows: list[dict[str, Any]] = [
        {
            "vault": vault.host,
            "held": vault.epoch,
            "failing_reason": None if failing is None else str(failing.reason),
            "backoff_ms": None if failing is None else failing.backoff // timedelta(milliseconds=1),
            "next_try_at": None if failing is None else failing.next_try_at,
        }
        for vault, failing in sorted(found.items(), key=lambda item: item[0].host)
    ]
    if rows:
        connection.execute(_RECORD, rows)
