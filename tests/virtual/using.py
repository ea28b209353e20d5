"""Uses of account keys: values protected and revealed, and what the vault saw of it."""

import asyncio

from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.values import ValueInfo, ValueName, ValueRef
from byokd.domain.vocabulary import ValueKind
from store.builders import decision
from virtual.vaults import Call, Vault
from virtual.world import World

REF = ValueRef(ValueKind.CONTENT_KEY, ValueName("video-1"))
CONTENT = b"what nobody else may see"


async def protect(world: World, account: AccountId, content: bytes = CONTENT) -> ValueInfo:
    return await world.service.values.protect(account, REF, content)


async def reveal(world: World, account: AccountId) -> bytes:
    return (await world.service.values.reveal(account, REF))[0]


def asked(vault: Vault, *, since: float = 0.0) -> list[Call]:
    """The unwraps of account keys, not of probes."""
    return [call for call in vault.called("unwrapKey", since=since) if not call.probe]


def dropped(world: World) -> list[int]:
    """How many were dropped by each denial, as logged."""
    return [line["count"] for line in world.logs if line["event"] == "plaintext-dropped"]


def number(world: World, name: str, **labels: str) -> float:
    return world.service.metrics.registry.get_sample_value(name, labels) or 0.0


async def commit(world: World, key: KeyIdentifier, **changes: object) -> None:
    """Commit a verdict as another replica would: this one is not told."""
    watch = await world.watch(key)
    await world.sql.commit_decision(watch, decision(watch, due=world.clock.now(), **changes), now=world.clock.now())


async def settle() -> None:
    """Let everything run that is ready."""
    await asyncio.sleep(0.001)
