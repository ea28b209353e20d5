"""What is stored of trouble, for whoever looks at a database from outside."""

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, func, select

from byokd.adapters.sql import brake_counts
from byokd.adapters.sql.failing import failing_vaults
from byokd.adapters.sql.tables import accounts, watches, wrapping_versions
from byokd.adapters.sql.watches import IN_USE
from byokd.domain.identifiers import VaultHost
from byokd.domain.vocabulary import Outcome, Reason
from byokd.ports.examining import AccountsAlike, Plight

_ALIKE = (
    accounts.c.reason,
    wrapping_versions.c.suspicion_reason,
    wrapping_versions.c.held_since.is_not(None),
    wrapping_versions.c.unverified_reason,
    accounts.c.damaged_since.is_not(None),
)
_ACCOUNTS = (
    select(func.count(), *_ALIKE)
    .select_from(accounts)
    .outerjoin(wrapping_versions, accounts.c.wrapping_version == wrapping_versions.c.id)
    .group_by(*_ALIKE)
)
_REFUSED = func.coalesce(wrapping_versions.c.suspicion_reason, wrapping_versions.c.reason)
_REFUSING = (
    select(watches.c.host, _REFUSED)
    .join_from(wrapping_versions, watches, wrapping_versions.c.watch == watches.c.id)
    .where(
        wrapping_versions.c.retired_at.is_(None),
        (wrapping_versions.c.outcome == str(Outcome.DENIED)) | wrapping_versions.c.suspicion_reason.is_not(None),
        # Closed for want of an answer, and not refused by anybody.
        _REFUSED.is_distinct_from(str(Reason.UNVERIFIED)),
        IN_USE,
    )
    .distinct()
    .order_by(watches.c.host)
)


def plight(connection: Connection) -> Plight:
    """Look, in one read transaction."""
    refusing: dict[Reason, list[VaultHost]] = defaultdict(list)
    for host, refused_for in connection.execute(_REFUSING):
        if (reason := _reason(refused_for)) is not None:
            refusing[reason].append(VaultHost(host))
    return Plight(
        accounts=tuple(_alike(*row) for row in connection.execute(_ACCOUNTS)),
        brake=brake_counts.report(connection, limit=0),
        refusing={reason: tuple(hosts) for reason, hosts in sorted(refusing.items())},
        failing=failing_vaults(connection),
    )


def _alike(number: int, *amiss: Any) -> AccountsAlike:  # noqa: ANN401 - columns of a row
    denied, suspicion, held, unverified, damaged = amiss
    return AccountsAlike(number, _reason(denied), _reason(suspicion), bool(held), _reason(unverified), bool(damaged))


def _reason(text: str | None) -> Reason | None:
    return None if text is None else Reason(text)
