"""Numbers for health and metrics, in one read transaction."""

from sqlalchemy import Connection, String, exists, func, select, type_coerce

from byokd.adapters.sql.tables import accounts, events, vaults, watches, wrapping_versions
from byokd.adapters.sql.watches import IN_USE
from byokd.domain.vocabulary import Outcome, State, WarningKind
from byokd.records import Census

_STATES = select(accounts.c.state, func.count()).group_by(accounts.c.state)
_WATCHES = select(func.count(accounts.c.watch.distinct()))
_VAULTS = select(func.count()).select_from(vaults)

_DENIED = wrapping_versions.c.outcome == str(Outcome.DENIED)
_SUSPECTED = wrapping_versions.c.suspicion_reason.is_not(None)
_UNVERIFIED = wrapping_versions.c.unverified_reason.is_not(None)
_VERSIONS = select(
    func.count().filter(_DENIED),
    func.count().filter(_SUSPECTED),
    func.count().filter(_UNVERIFIED),
    func.count(wrapping_versions.c.held_since),
).where(
    wrapping_versions.c.retired_at.is_(None),
    _DENIED | _SUSPECTED | _UNVERIFIED,
    exists().where(accounts.c.watch == wrapping_versions.c.watch),
)
_UNPUBLISHED = select(func.count()).select_from(events).where(events.c.published_at.is_(None))
_OLDEST = select(events.c.time).where(events.c.published_at.is_(None)).order_by(events.c.number).limit(1)
_REWRAPS = (
    select(func.count())
    .select_from(wrapping_versions)
    .join(accounts, accounts.c.wrapping_version == wrapping_versions.c.id)
    .where(wrapping_versions.c.is_current.is_(False), wrapping_versions.c.retired_at.is_(None))
)
_DAMAGED = select(func.count()).select_from(accounts).where(accounts.c.damaged_since.is_not(None))
_WARNED = type_coerce(watches.c.warnings, String)
# Counted in the text as it is stored: reading thousands of documents every other second would cost more than it tells.
_WARNINGS = select(
    *(func.count().filter(_WARNED.contains(f'["{kind}",', autoescape=True)) for kind in WarningKind)
).where(_WARNED != "[]", IN_USE)


def census(connection: Connection) -> Census:
    """See `Store.census`. Versions of watches without accounts do not count; waiting rewraps need not be due."""
    counted = {State(state): count for state, count in connection.execute(_STATES)}
    denied, suspected, unverified, held = connection.execute(_VERSIONS).one()
    warned = connection.execute(_WARNINGS).one()
    return Census(
        accounts={state: counted.get(state, 0) for state in State},
        watches=connection.scalar(_WATCHES) or 0,
        vaults=connection.scalar(_VAULTS) or 0,
        denied_versions=denied,
        suspected_versions=suspected,
        unverified_versions=unverified,
        unpublished=connection.scalar(_UNPUBLISHED) or 0,
        oldest_unpublished=connection.scalar(_OLDEST),
        rewraps_waiting=connection.scalar(_REWRAPS) or 0,
        held_versions=held,
        damaged_accounts=connection.scalar(_DAMAGED) or 0,
        warnings={kind: count for kind, count in zip(WarningKind, warned, strict=True) if count},
    )
