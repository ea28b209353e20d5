"""Thousands of watches at once: one is registered as ever, the rest are its copies."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from byokd.adapters.sql.tables import accounts, vaults, watches, wrapping_versions
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.vocabulary import Reason
from virtual.vaults import Vault
from virtual.world import World, account_id

Place = tuple[Vault, str]


async def fill(world: World, places: Sequence[Place]) -> list[KeyIdentifier]:
    """Have a key in each place watched, for an account each; give the keys. The service must run."""
    keys = [vault.create(name) for vault, name in places]
    await world.register(keys[0])
    await world.crash()
    rows = [_probed(world, vault, name, number) for number, (vault, name) in enumerate(places, start=1)]
    await world.sql._runner.write(_copy, rows)
    return keys


def _probed(world: World, vault: Vault, name: str, number: int) -> dict[str, Any]:
    probe, wrapped = world.randomness.bytes(32), world.randomness.bytes(256)
    version = vault.key(name).newest
    version.wraps[wrapped] = probe
    digest = hashlib.sha256(probe).digest()
    return {"number": number, "host": vault.host, "name": name, "version": version.id, "probe": (wrapped, digest)}


def _copy(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    def first(table: Table) -> dict[str, Any]:
        return dict(connection.execute(select(table)).one()._mapping)

    vault, watch, version, account = map(first, (vaults, watches, wrapping_versions, accounts))
    known = {vault["host"]}
    made: dict[Table, list[dict[str, Any]]] = {vaults: [], watches: [], wrapping_versions: [], accounts: []}
    for row in rows[1:]:
        number, named = row["number"], account_id(row["number"])
        if row["host"] not in known:
            known.add(row["host"])
            made[vaults].append(vault | {"host": row["host"]})
        made[watches].append(watch | {"id": number, "host": row["host"], "key_name": row["name"]})
        wrapped, digest = row["probe"]
        made[wrapping_versions].append(
            version
            | {"id": number, "watch": number, "version": row["version"]}
            | {"probe_wrapped": wrapped, "probe_digest": digest}
        )
        made[accounts].append(
            account | {"id": str(named), "name": named.name, "watch": number, "wrapping_version": number}
        )
    for table, copies in made.items():
        if copies:
            connection.execute(insert(table), copies)


async def make_overdue(world: World, *, suspected: Sequence[int] = ()) -> None:
    """Set all due times to an hour ago, in the order of the numbers, and a denial of some watches to suspected."""
    before = world.clock.now() - timedelta(hours=1)
    await world.sql._runner.write(_late, before, tuple(suspected))


def _late(connection: Connection, before: datetime, suspected: Sequence[int]) -> None:
    for number in connection.scalars(select(watches.c.id)).all():
        due = before + timedelta(milliseconds=number)
        connection.execute(update(watches).where(watches.c.id == number).values(due_at=due))
    connection.execute(
        update(wrapping_versions)
        .where(wrapping_versions.c.watch.in_(suspected))
        .values(
            suspicion_reason=str(Reason.ACCESS_DENIED),
            suspicion_message="refused once",
            suspicion_since=before,
        )
    )


def begun(world: World, *, since: float) -> list[tuple[float, Vault, Any]]:
    """When checks of healthy keys began, with their vault and version."""
    return sorted(
        (
            (call.time, vault, call.version)
            for vault in world.vaults.all()
            for call in vault.calls
            if call.operation == "unwrapKey" and call.time >= since and call.probe
        ),
        key=lambda found: found[0],
    )
