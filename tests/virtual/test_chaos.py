"""Any sequence of changes, bad luck, restarts and time: no false alarm, nothing lost, and at last everything right."""

import asyncio
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.vocabulary import DetectedBy, Reason, RefusalKind, State
from byokd.ports import StoreUnavailableError
from virtual.vaults import Call, Mishap, Vault
from virtual.world import World, account_id, spec_of, virtually

ACCOUNTS = 4
SILENCES = (Reason.THROTTLED, Reason.VAULT_ERROR, Reason.TOKEN_UNAVAILABLE, Mishap.HANG, Mishap.DEFECT)
ODD = (RefusalKind.ACCESS_DENIED, RefusalKind.NOT_FOUND, RefusalKind.NETWORK_BLOCKED, Mishap.WRONG_VALUE)


class Chaos:
    """A customer, bad luck and an operator at work on one vault."""

    def __init__(self, world: World, vault: Vault, key: KeyIdentifier) -> None:
        self.world = world
        self.vault = vault
        self.key = key

    async def do(self, action: str, number: int) -> None:
        await getattr(self, action)(Random(number))  # noqa: S311 - repeatable

    async def wait(self, random: Random) -> None:
        await asyncio.sleep(random.choice((0.5, 3, 6, 20, 70, 200)))

    async def disable(self, random: Random) -> None:
        self.vault.disable(version=random.randrange(len(self.vault.key().versions)))

    async def enable(self, _: Random) -> None:
        self.vault.enable()

    async def delete(self, _: Random) -> None:
        self.vault.delete()

    async def heal(self, _: Random) -> None:
        self.vault.heal()

    async def revoke(self, random: Random) -> None:
        self.vault.revoke(*random.choice(((), ("get",), ("wrapKey",), ("unwrapKey",))))

    async def block(self, _: Random) -> None:
        self.vault.block()

    async def rotate(self, _: Random) -> None:
        self.vault.rotate()

    async def silence(self, random: Random) -> None:
        self.vault.strike(random.choice(SILENCES), count=random.choice((1, 3, 20)))

    async def oddity(self, random: Random) -> None:
        self.vault.strike(random.choice(ODD), "unwrapKey", count=1)

    async def stale(self, random: Random) -> None:
        self.vault.strike(Mishap.STALE, "get", count=random.randint(1, 5))

    async def slow(self, random: Random) -> None:
        self.vault.latency = random.choice((0.02, 0.5, 2.5))

    async def restart(self, _: Random) -> None:
        await self.world.restart()

    async def orderly_restart(self, _: Random) -> None:
        await self.world.stop()
        await self.world.start()

    async def reload(self, _: Random) -> None:
        await self.world.reload()

    async def store_trouble(self, random: Random) -> None:
        self.world.store.after = random.random() < 0.5
        first = self.world.store.calls + random.randrange(20)
        self.world.store.fail_at = frozenset(range(first, first + random.randrange(1, 4)))

    async def broker_trouble(self, random: Random) -> None:
        self.world.bus.drop()
        await asyncio.sleep(random.choice((1, 100)))
        self.world.bus.back()

    async def check(self, _: Random) -> None:
        for watch in await self.world.sql.watches():
            self.world.service.scheduler.hint(watch.id, detected_by=DetectedBy.OPERATOR)

    async def recreate(self, random: Random) -> None:
        """Delete an account and create it again, as far as the vault lets us."""
        number = random.randint(1, ACCOUNTS)
        try:
            await self.world.service.registrar.delete(account_id(number))
            await self.world.service.registrar.apply(spec_of(number, self.key))
        except (StoreUnavailableError, RuntimeError):
            return  # an operator sees it and tries again


ACTIONS = sorted(name for name in vars(Chaos) if not name.startswith("_") and name != "do")
steps = st.lists(st.tuples(st.sampled_from([*ACTIONS, "wait", "wait"]), st.integers(0, 999)), max_size=16)


@settings(max_examples=50)
@given(steps=steps, seed=st.integers(0, 999))
def test_any_sequence_of_events_ends_well_and_raises_no_false_alarm(
    service_keys: Path, steps: list[tuple[str, int]], seed: int
) -> None:
    async def scenario() -> None:
        vault, key = world.one_vault()
        chaos = Chaos(world, vault, key)
        async with world.running():
            await world.register(key, count=ACCOUNTS)
            opened = await keys_of(world)
            for action, number in steps:
                await chaos.do(action, number)
                assert world.is_alive()
            vault.heal()
            vault.latency = 0.02
            world.store.fail_at = frozenset()
            for _ in range(120):
                await asyncio.sleep(20)
                if await all_is_right(world, vault):
                    break
            assert world.is_alive()
            assert await all_is_right(world, vault), await world.sql.accounts()
            now = await keys_of(world)
            assert all(opened[life] == now[life] for life in opened.keys() & now.keys())
            await world.assert_converged()
            assert_no_false_alarm(world, vault)

    world = World(service_keys, seed=seed)
    virtually(scenario())
    world.close()


async def all_is_right(world: World, vault: Vault) -> bool:
    newest = vault.key().newest.id
    return all(
        account.state is State.ACCESSIBLE and account.current is not None and account.current.version == newest
        for account in await world.sql.accounts()
    )


async def keys_of(world: World) -> dict[str, bytes]:
    """The account keys by incarnation."""
    return {account.incarnation: (await world.open(account)).account_key for account in await world.sql.accounts()}


def assert_no_false_alarm(world: World, vault: Vault) -> None:
    """Whoever became Inaccessible: the vault had refused that version twice, 5 s apart, with nothing usable between."""
    for number in range(1, ACCOUNTS + 1):
        for event in world.told(account_id(number), "byokd.account.inaccessible"):
            if event["data"]["previousState"] != State.ACCESSIBLE:
                continue
            version = event["data"]["currentKeyIdentifier"].rpartition("/")[2]
            looks = [call for call in vault.called("unwrapKey") if call.version == version and call.time <= event["at"]]
            assert was_refused_twice(looks), (event, looks)


def was_refused_twice(looks: list[Call]) -> bool:
    refusals = {*RefusalKind, "wrong"}
    streak: list[Call] = []
    for look in looks:
        if look.outcome in refusals and look.probe:
            streak.append(look)
            if look.time - streak[0].time >= 4.9 and look.way == "fresh":
                return True
        elif look.outcome == "ok" and look.probe:
            streak = []
    return False
