"""Whatever happens between the steps of rewraps: each account key opens, and the wrap before it stays long enough."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from byokd.adapters.sql.rows import sealed_of, stored_identifier
from byokd.adapters.sql.tables import account_keys, accounts
from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import AccountId
from byokd.ports import KeyTarget
from byokd.records import WrappedKey
from byokd.runtime.account_keys import AccountKeys
from virtual.test_chaos import Chaos
from virtual.vaults import IDENTITY, TENANT, SimulatedVaults
from virtual.world import World, virtually

ACCOUNTS = 6
SHORTLY = (0.02, 0.05, 0.1, 0.5)
ACTIONS = (
    "rotate", "disable", "enable", "delete", "heal", "revoke", "block", "silence", "oddity", "stale", "slow",
    "restart", "orderly_restart", "store_trouble", "check", "recreate", "lose", "find", "wait", "instant", "instant",
)  # fmt: skip
Wrap = tuple[str, int]
"""A wrapped key by the account's incarnation and its generation."""


class Fire(Chaos):
    """Chaos, with moments as short as a call, and a vault that fails over to an older copy of itself and back."""

    async def instant(self, random: Random) -> None:
        await asyncio.sleep(random.choice(SHORTLY))

    async def lose(self, _: Random) -> None:
        if not hasattr(self, "lost") and len(self.vault.key().versions) > 1:
            self.lost = self.vault.key().versions.pop()

    async def find(self, _: Random) -> None:
        if hasattr(self, "lost"):
            self.vault.key().versions.append(self.lost)
            del self.lost


class Memory:
    """A key service that remembers what every version ever wrapped, usable or not. It only unwraps."""

    def __init__(self, vaults: SimulatedVaults) -> None:
        self._vaults = vaults
        self._wraps: dict[str, dict[bytes, bytes]] = {}

    def note(self) -> None:
        for vault in self._vaults.all():
            for key in vault.keys.values():
                self._wraps |= {version.id: version.wraps for version in key.versions}

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        raise NotImplementedError

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        raise NotImplementedError

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        assert target.key.version is not None
        return self._wraps[target.key.version][wrapped]


class Witness:
    """Remembers every account key and every wrap that it ever saw."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._memory = Memory(world.vaults)
        self._keys = AccountKeys(
            self._memory,
            world.sealer,
            world.cipher,
            clock=world.clock,
            randomness=world.randomness,
            deadline=timedelta(seconds=1),
        )
        self._secrets: dict[str, bytes] = {}
        self._made: dict[Wrap, datetime] = {}

    async def look(self) -> None:
        """Every key opens as it did, and no wrap is gone before its time."""
        self._memory.note()
        wraps = select(account_keys, accounts.c.incarnation).join_from(account_keys, accounts)
        rows = await self._world.sql._runner.read(lambda c: list(c.execute(wraps)))
        for row in rows:
            self._made.setdefault((row.incarnation, row.generation), row.created_at)
            opened = await self._open(row)
            assert self._secrets.setdefault(row.incarnation, opened) == opened
        lives = {row.incarnation for row in rows}
        assert len([row for row in rows if row.superseded_at is None]) == len(lives) == len(await self._lives())
        settle, now = self._world.settings.rewrap.settle, self._world.clock.now()
        for life, generation in self._made.keys() - {(row.incarnation, row.generation) for row in rows}:
            after = self._made.get((life, generation + 1))
            assert life not in lives or after is None or now - after >= settle, "erased too early"

    async def _lives(self) -> set[str]:
        return {account.incarnation for account in await self._world.sql.accounts()}

    async def _open(self, row) -> bytes:  # noqa: ANN001 - a row of the query above
        identifier = stored_identifier(row.key_identifier)
        wrapped = WrappedKey(AccountId.parse(row.account), row.generation, identifier, sealed_of(row))
        return (await self._keys.open(wrapped, KeyTarget(IDENTITY, TENANT, identifier))).account_key


@settings(max_examples=25)
@given(
    steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 999)), min_size=4, max_size=24),
    seed=st.integers(0, 999),
)
def test_no_account_key_is_ever_lost(service_keys: Path, steps: list[tuple[str, int]], seed: int) -> None:
    async def scenario() -> None:
        vault, key = world.one_vault()
        fire, witness = Fire(world, vault, key), Witness(world)
        async with world.running():
            await world.register(key, count=ACCOUNTS)
            await fire.do("rotate", 0)
            await fire.do("check", 0)
            for action, number in steps:
                await fire.do(action, number)
                await witness.look()
                assert world.is_alive()
            await fire.do("find", 0)
            vault.heal()
            vault.latency, world.store.fail_at = 0.02, frozenset()
            for _ in range(120):
                await asyncio.sleep(20)
                await witness.look()
                if (await world.sql.census()).rewraps_waiting == 0:
                    return
            raise AssertionError("rewraps never end")

    world = World(service_keys, seed=seed)
    virtually(scenario())
    world.close()
