"""What the brake goes by: who is suspected, of how many, and what it holds."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, select

from byokd.adapters.sql.rows import AnyRow, stored_identifier
from byokd.adapters.sql.tables import accounts, brake, watches, wrapping_versions
from byokd.adapters.sql.watches import IN_USE
from byokd.domain.brake import (
    OUR_FAULT_CAN_CAUSE,
    Among,
    Brake,
    BrakeMode,
    Counted,
    Crowd,
    Crowds,
    Customer,
    EngagedBy,
    Engagement,
    Finding,
    Suspect,
)
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.domain.vocabulary import Outcome, Reason
from byokd.ports.brake import BrakeReport, BrakeTerms, HeldDenial

BRAKE = select(brake)
"""The one row."""

HELD = wrapping_versions.c.suspicion_reason.is_not(None) & wrapping_versions.c.held_since.is_not(None)
"""Whether a denial of a version is held; the first half lets an index find them."""

_OURS = sorted(map(str, OUR_FAULT_CAN_CAUSE))
_USABLE = wrapping_versions.c.outcome == str(Outcome.USABLE)
_SUSPECTED = wrapping_versions.c.suspicion_reason.is_not(None) & wrapping_versions.c.suspicion_reason.in_(_OURS)
_OF_WATCH = wrapping_versions.c.watch == watches.c.id
_LIVE = wrapping_versions.c.retired_at.is_(None) & IN_USE
_DENIED = wrapping_versions.c.reason.is_not(None) & wrapping_versions.c.reason.in_(_OURS)
_DENIED_LATELY = _DENIED & (wrapping_versions.c.since >= bindparam("denied_since"))
_SUSPECTS = (
    select(
        watches.c.identity,
        watches.c.tenant,
        watches.c.host,
        wrapping_versions.c.suspicion_reason.label("why"),
        wrapping_versions.c.suspicion_since.label("begun"),
    )
    .join_from(wrapping_versions, watches, _OF_WATCH)
    .where(_SUSPECTED, _USABLE, _LIVE)
)
_STRUCK = (
    select(
        watches.c.identity,
        watches.c.tenant,
        watches.c.host,
        wrapping_versions.c.reason.label("why"),
        wrapping_versions.c.since.label("begun"),
    )
    .join_from(wrapping_versions, watches, _OF_WATCH)
    .where(_DENIED_LATELY, _LIVE)
)
_SIZES = (func.count(watches.c.tenant.distinct()), func.count(watches.c.host.distinct()))
_WATCHED = IN_USE & exists().where(_OF_WATCH, wrapping_versions.c.retired_at.is_(None), _USABLE | _DENIED_LATELY)
_WHOLE = select(*_SIZES).where(_WATCHED)
_OF_IDENTITIES = select(watches.c.identity, *_SIZES).where(_WATCHED).group_by(watches.c.identity)
_ANY_HELD = select(wrapping_versions.c.id).join(watches, _OF_WATCH).where(HELD, _LIVE).limit(1)
_ANY_DENIED_SINCE = (
    select(wrapping_versions.c.id)
    .join(watches, _OF_WATCH)
    .where(
        _DENIED,
        wrapping_versions.c.since >= bindparam("begun"),
        _LIVE,
    )
    .limit(1)
)
_ACCOUNTS = (
    select(func.count())
    .select_from(accounts)
    .where(accounts.c.wrapping_version == wrapping_versions.c.id)
    .correlate(wrapping_versions)
)
_HELD_DENIALS = (
    select(wrapping_versions, watches.c.identity, watches.c.tenant, watches.c.host, watches.c.key_name)
    .add_columns(_ACCOUNTS.scalar_subquery().label("accounts"))
    .join_from(wrapping_versions, watches, _OF_WATCH)
    .where(HELD, _LIVE)
    .order_by(wrapping_versions.c.held_since, wrapping_versions.c.id)
    .limit(bindparam("most"))
)
_HOW_MANY_HELD = (
    select(func.count(), func.min(wrapping_versions.c.held_since), *_SIZES)
    .join_from(wrapping_versions, watches, _OF_WATCH)
    .where(HELD, _LIVE)
)
_ACCOUNTS_HELD = (
    select(func.count())
    .select_from(accounts)
    .join(wrapping_versions, accounts.c.wrapping_version == wrapping_versions.c.id)
    .where(HELD)
)


def report(connection: Connection, *, limit: int) -> BrakeReport:
    """See `BrakeStore.brake_report`."""
    number, oldest, tenants, hosts = connection.execute(_HOW_MANY_HELD).one()
    closing = connection.scalar(_ACCOUNTS_HELD) if number else 0
    denials = [_held_denial(row) for row in connection.execute(_HELD_DENIALS, {"most": limit})]
    found = brake_of(connection.execute(BRAKE).one())
    return BrakeReport(found, number, oldest, denials, accounts=closing or 0, tenants=tenants, vaults=hosts)


def suspects(connection: Connection, found: Brake, terms: BrakeTerms) -> Sequence[Suspect]:
    """Give who is suspected, or was denied lately; not those whom an operator has judged already."""
    rows = [*connection.execute(_SUSPECTS), *connection.execute(_STRUCK, {"denied_since": terms.denied_since})]
    return [
        Suspect(
            Customer(IdentityName(row.identity), TenantId(row.tenant), VaultHost(row.host)), Reason(row.why), row.begun
        )
        for row in rows
        if found.counts_from is None or row.begun > found.counts_from
    ]


def crowds(connection: Connection, terms: BrakeTerms) -> Crowds:
    """Count the customers that have a key that is usable so far, or was until lately."""
    lately = {"denied_since": terms.denied_since}
    tenants, hosts = connection.execute(_WHOLE, lately).one()
    counted: dict[IdentityName | None, Crowd] = {None: Crowd(tenants, hosts)}
    for identity, of_tenants, of_hosts in connection.execute(_OF_IDENTITIES, lately):
        counted[IdentityName(identity)] = Crowd(of_tenants, of_hosts)
    return counted


def is_unproved(connection: Connection, engagement: Engagement) -> bool:
    """Whether anything is held, or denied since the engagement for a reason that our fault can cause."""
    begun = {"begun": engagement.since}
    return connection.scalar(_ANY_HELD) is not None or connection.scalar(_ANY_DENIED_SINCE, begun) is not None


def brake_of(row: AnyRow) -> Brake:
    """Read the brake."""
    engagement = None
    if row.engaged_at is not None:
        engagement = Engagement(
            EngagedBy(row.engaged_by), row.engaged_at, BrakeMode(row.mode), _finding_of(row.finding), row.message
        )
    return Brake(row.revision, engagement, row.counts_from)


def _finding_of(document: Any) -> Finding | None:  # noqa: ANN401 - JSON
    if document is None:
        return None
    identity = document["identity"]
    return Finding(
        Counted(document["counted"]),
        Among(document["among"]),
        None if identity is None else IdentityName(identity),
        customers=document["customers"],
        suspected=document["suspected"],
        reasons=tuple(map(Reason, document["reasons"].split(","))),
    )


def _held_denial(row: AnyRow) -> HeldDenial:
    return HeldDenial(
        key=stored_identifier(f"https://{row.host}/keys/{row.key_name}/{row.version}"),
        identity=IdentityName(row.identity),
        tenant=TenantId(row.tenant),
        reason=Reason(row.suspicion_reason),
        message=row.suspicion_message,
        since=row.suspicion_since,
        held_since=row.held_since,
        accounts=row.accounts,
    )
