"""Promise 4, in any order of uses, denials, silences, restarts and time: each use that succeeded was allowed to."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, RefusalKind
from byokd.ports import StoreUnavailableError
from byokd.runtime.unusable import UnusableError
from store.builders import denial
from virtual.using import CONTENT, commit, protect, reveal
from virtual.vaults import Call, Mishap, Vault
from virtual.world import World, virtually

MAX_AGE = 300.0
REFUSALS = {*RefusalKind, "wrong"}


@dataclass
class Uses:
    """A customer, bad luck and users at work on one account."""

    world: World
    vault: Vault
    key: KeyIdentifier
    account: AccountId
    running: set[asyncio.Task[None]] = field(default_factory=set)

    async def do(self, action: str, number: int) -> None:
        await getattr(self, action)(Random(number))  # noqa: S311 - repeatable

    async def use(self, random: Random) -> None:
        for _ in range(random.choice((1, 1, 3))):
            task = asyncio.create_task(self._use(random.random()))
            self.running.add(task)
            task.add_done_callback(self.running.discard)
        await asyncio.sleep(random.choice((0, 0, 0.01, 1)))

    async def _use(self, chance: float) -> None:
        begun = self.world.now
        try:
            if chance < 0.3:
                await protect(self.world, self.account)
            else:
                assert await reveal(self.world, self.account) == CONTENT
        except (UnusableError, StoreUnavailableError):
            return
        # Nothing gives way between the use's last look and here, so this is the moment of its success.
        gate = await self.world.sql.gate(self.account)
        assert gate is not None
        assert gate.standing is not None
        assert gate.standing.outcome is Outcome.USABLE, "a denial is committed"
        self._assert_allowed(begun)

    def _assert_allowed(self, begun: float) -> None:
        now = self.world.now
        answered = [call for call in self.vault.called("unwrapKey") if call.ended <= now]
        last_denial = max((call.ended for call in answered if call.outcome in REFUSALS), default=-1.0)
        unwraps = [
            call
            for call in answered
            if call.outcome == "ok" and not call.probe and call.time > now - MAX_AGE and call.time >= last_denial
        ]
        assert unwraps, "no unwrap since the last denial that is young enough"
        if last_denial >= 0 and not self._cleared(answered, last_denial):
            assert any(call.ended >= begun for call in unwraps), "in doubt, an unwrap of the use's own"

    def _cleared(self, answered: list[Call], last_denial: float) -> bool:
        return any(call.probe and call.outcome == "ok" and call.time >= last_denial for call in answered)

    async def wait(self, random: Random) -> None:
        await asyncio.sleep(random.choice((0.5, 3, 6, 20, 70, 200, 299)))

    async def disable(self, _: Random) -> None:
        self.vault.disable()

    async def enable(self, _: Random) -> None:
        self.vault.heal()

    async def odd(self, random: Random) -> None:
        self.vault.strike(
            random.choice((RefusalKind.ACCESS_DENIED, RefusalKind.NETWORK_BLOCKED, Mishap.WRONG_VALUE)),
            "unwrapKey",
            count=1,
        )

    async def silence(self, random: Random) -> None:
        self.vault.strike(random.choice((Reason.TIMED_OUT, Mishap.HANG)), count=random.choice((1, 3, 20)))

    async def slow(self, random: Random) -> None:
        self.vault.latency = random.choice((0.02, 0.5, 2.5))

    async def check(self, _: Random) -> None:
        (watch,) = await self.world.sql.watches()
        self.world.service.scheduler.hint(watch.id, detected_by=DetectedBy.OPERATOR)

    async def elsewhere(self, _: Random) -> None:
        """Another replica commits a denial; this one is not told."""
        await commit(self.world, self.key, **denial(when=self.world.clock.now()))

    async def store_trouble(self, random: Random) -> None:
        self.world.store.after = random.random() < 0.5
        first = self.world.store.calls + random.randrange(10)
        self.world.store.fail_at = frozenset(range(first, first + random.randrange(1, 4)))

    async def restart(self, _: Random) -> None:
        await self.world.restart()

    def assert_nothing_old_is_held(self) -> None:
        plaintext = self.world.service.plaintext
        for held in plaintext._held.values():
            assert self.world.now - held.asked < MAX_AGE
            denials = [call for call in self.vault.called("unwrapKey") if call.outcome in REFUSALS]
            assert all(call.ended <= held.asked for call in denials)


ACTIONS = sorted(
    name for name in vars(Uses) if name[0] != "_" and asyncio.iscoroutinefunction(getattr(Uses, name)) and name != "do"
)
steps = st.lists(st.tuples(st.sampled_from([*ACTIONS, "use", "use", "use", "wait"]), st.integers(0, 999)), max_size=25)


@settings(max_examples=40)
@given(steps=steps, seed=st.integers(0, 999))
def test_each_use_that_succeeds_is_allowed(service_keys: Path, steps: list[tuple[str, int]], seed: int) -> None:
    async def scenario() -> None:
        vault, key = world.one_vault()
        async with world.running():
            (account,) = await world.register(key)
            await protect(world, account)
            uses = Uses(world, vault, key, account)
            for action, number in steps:
                await uses.do(action, number)
                uses.assert_nothing_old_is_held()
                assert world.is_alive()
            world.store.fail_at = frozenset()
            await asyncio.gather(*uses.running)
            vault.heal()
            await world.restart()  # what was committed elsewhere is read anew, as after a change of the lease
            await world.until(lambda: usable(world, account), within=400)

    world = World(service_keys, seed=seed)
    virtually(scenario())
    world.close()


async def usable(world: World, account: AccountId) -> bool:
    try:
        return await reveal(world, account) == CONTENT
    except UnusableError:
        return False
