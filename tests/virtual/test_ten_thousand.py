"""Ten thousand accounts of one key: those that can be moved are, once; those that cannot are named."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from byokd.adapters.sql.tables import account_keys, accounts, events
from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import Reason
from byokd.ports import KeyTarget
from byokd.records import KeyPlacement
from byokd.runtime.account_keys import AccountKeys
from byokd.settings import Settings, VaultSettings
from virtual.vaults import IDENTITY, TENANT
from virtual.world import MINUTE, PREFIX, World, account_id, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

ACCOUNTS, DAMAGED = 10_000, 100
REWRAPPED, FAILED = "byokd.accountkey.rewrapped", "byokd.accountkey.rewrap-failed"


async def fill(world: World) -> list[AccountId]:
    """Make the accounts by the registrar's own steps, but for asking the vault about its key each time."""
    vault, key = world.one_vault()
    (first,) = await world.register(key)
    wrapped = await world.sql.wrapped_key(first)
    assert wrapped is not None
    assert wrapped.key_identifier is not None
    keys = AccountKeys(
        world.vaults.kept,
        world.sealer,
        world.cipher,
        clock=world.clock,
        randomness=world.randomness,
        deadline=world.settings.rewrap.deadline,
    )
    target = KeyTarget(IDENTITY, TENANT, wrapped.key_identifier)
    vault.latency = 0.0
    for number in range(2, ACCOUNTS + 1):
        account = account_id(number)
        sealed = await keys.place(keys.make(account), account, target)
        await world.sql.create_account(
            spec_of(number, key),
            KeyPlacement(target.key, sealed, None),
            incarnation=world.ids.new(),
            now=world.clock.now(),
        )
    vault.latency = 0.02
    return [account_id(number) for number in range(1, ACCOUNTS + 1)]


async def waiting(world: World) -> int:
    return (await world.sql.census()).rewraps_waiting


async def until_left(world: World, left: int) -> None:
    """Wait, looking seldom: to count ten thousand takes a while."""
    begun = world.now
    while await waiting(world) > left:
        assert world.now - begun < 10 * MINUTE
        await asyncio.sleep(2)


async def test_one_crash_some_damage_and_a_throttling_vault_cost_the_other_accounts_nothing(
    make_world: Callable[..., World],
) -> None:
    # Within our share of the vault's limit it would take five more virtual minutes, and show nothing else.
    world = make_world(settings=Settings(vaults=VaultSettings(quota_share=0)))
    async with world.running():
        everybody = await fill(world)
        (vault,) = world.vaults.all()
        damaged = set(everybody[50 :: ACCOUNTS // DAMAGED])
        broken = update(account_keys).where(account_keys.c.account.in_(map(str, damaged))).values(sealed=b"damaged")
        await world.sql._runner.write(lambda c: c.execute(broken))
        vault.latency = 0.02
        version = vault.rotate()
        assert await waiting(world) == 0
        await world.service.scheduler.check_now((await world.watch(version)).id)
        assert await waiting(world) > ACCOUNTS * 9 // 10, "adopted"
        await until_left(world, ACCOUNTS * 3 // 4)
        await world.crash()
        await world.start()
        await until_left(world, ACCOUNTS // 2)
        assert await waiting(world) > ACCOUNTS // 4, "it is in the middle"
        vault.strike(Reason.THROTTLED, "wrapKey", count=20)
        await until_left(world, DAMAGED)
        await world.until(world._all_published, within=MINUTE)
        await assert_each_moved_once(world, damaged)


async def assert_each_moved_once(world: World, damaged: set[AccountId]) -> None:
    generations = await world.sql._runner.read(lambda c: c.execute(select(accounts.c.id, accounts.c.generation)).all())
    names = {str(account) for account in damaged}
    assert {row.id for row in generations if row.generation == 1} == names
    assert {row.generation for row in generations} == {1, 2}
    told = [json.loads(m.payload) for _, m in world.bus.messages if m.topic.startswith(f"{PREFIX}/accounts/")]
    seen = {event["id"]: event for event in told}.values()
    rewrapped = Counter(event["data"]["account"] for event in seen if event["type"] == REWRAPPED)
    assert set(rewrapped.values()) == {1}
    assert rewrapped.keys() == {row.id for row in generations} - names
    assert names <= {event["data"]["account"] for event in seen if event["type"] == FAILED}
    in_order = (
        select(events.c.account, events.c.sequence).where(events.c.account.is_not(None)).order_by(events.c.number)
    )
    sequences: dict[str, list[int]] = {}
    for row in await world.sql._runner.read(lambda c: c.execute(in_order).all()):
        sequences.setdefault(row.account, []).append(row.sequence)
    assert all(found == list(range(1, len(found) + 1)) for found in sequences.values())
    assert len(sequences) == ACCOUNTS
