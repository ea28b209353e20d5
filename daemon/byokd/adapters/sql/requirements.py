"""Vaults as ARM is asked about them: whose turn it is, and whom it concerns."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, exists, func, or_, select, update

from byokd.adapters.sql.part import StorePart
from byokd.adapters.sql.tables import accounts, vaults, watches
from byokd.adapters.sql.watches import IN_USE, read
from byokd.domain.identifiers import AccountId, VaultHost
from byokd.ports.requirements import Occupant, Turn

_VAULTS = select(func.count()).select_from(vaults)
_DUE = (
    select(vaults.c.host)
    .where(
        or_(vaults.c.asked_at.is_(None), vaults.c.asked_at < bindparam("before")),
        exists().where(watches.c.host == vaults.c.host, IN_USE),
    )
    .order_by(vaults.c.asked_at.is_not(None), vaults.c.asked_at, vaults.c.host)
    .limit(1)
)
_OF_VAULT = IN_USE & (watches.c.host == bindparam("of_host"))
# One account stands for those of its location: what ARM tells needs a subscription or two, not a hundred thousand rows.
_PLACES = (
    select(accounts.c.watch, accounts.c.location, func.min(accounts.c.id), func.max(accounts.c.id))
    .join(watches, accounts.c.watch == watches.c.id)
    .where(watches.c.host == bindparam("of_host"))
    .group_by(accounts.c.watch, accounts.c.location)
)
_ASKED = update(vaults).where(vaults.c.host == bindparam("of_host")).values(asked_at=bindparam("at"))


def next_to_ask(connection: Connection, *, before: datetime) -> Turn:
    """See `RequirementStore.next_to_ask`."""
    due = connection.scalar(_DUE, {"before": before})
    return Turn(connection.scalar(_VAULTS) or 0, None if due is None else VaultHost(due))


def occupants(connection: Connection, host: VaultHost) -> Sequence[Occupant]:
    """See `RequirementStore.occupants`."""
    locations, subscriptions = defaultdict[int | None, set[str]](set), defaultdict[int | None, set[str]](set)
    for watch, location, first, last in connection.execute(_PLACES, {"of_host": str(host)}):
        locations[watch].add(location)
        subscriptions[watch] |= {AccountId.parse(account).subscription for account in (first, last)}
    return [
        Occupant(watch, frozenset(locations[watch.id]), tuple(sorted(subscriptions[watch.id])))
        for watch in read(connection, _OF_VAULT, {"of_host": str(host)})
    ]


def record_asked(connection: Connection, host: VaultHost, *, now: datetime) -> None:
    """See `RequirementStore.record_asked`."""
    connection.execute(_ASKED, {"of_host": str(host), "at": now})


class SqlRequirementStore(StorePart):
    """The part of the store that ARM is asked by. Obligations of each method: see `RequirementStore`."""

    async def next_to_ask(self, *, before: datetime) -> Turn:
        """See `RequirementStore.next_to_ask`."""
        return await self._runner.read(next_to_ask, before=before)

    async def occupants(self, host: VaultHost) -> Sequence[Occupant]:
        """See `RequirementStore.occupants`."""
        return await self._runner.read(occupants, host)

    async def record_asked(self, host: VaultHost, *, now: datetime) -> None:
        """See `RequirementStore.record_asked`."""
        await self._runner.write(record_asked, host, now=now)
