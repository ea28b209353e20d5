"""One odd answer is no denial, however the clock is set, however slow the vault is, whatever became of a commit."""

import asyncio
from datetime import timedelta

import pytest

from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, RefusalKind
from byokd.runtime.unusable import RecordDamagedError
from virtual.using import protect, reveal
from virtual.vaults import Mishap
from virtual.world import World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


async def look(world: World, key: KeyIdentifier, *, seconds: float) -> None:
    """Have byokd look at once, and wait so long."""
    world.service.scheduler.hint((await world.watch(key)).id, detected_by=DetectedBy.OPERATOR)
    await asyncio.sleep(seconds)


async def verdict(world: World, key: KeyIdentifier):  # noqa: ANN201 - a verdict
    return (await world.watch(key)).current_version.verdict


@pytest.mark.parametrize("reloads", [False, True])
async def test_a_clock_that_is_set_forward_confirms_no_denial(world: World, *, reloads: bool) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=2)
        await look(world, key, seconds=0.5)
        assert (await verdict(world, key)).suspicion is not None
        if reloads:
            await world.reload(world.settings.model_copy(update={"identities": {}}))
        world.clock.stepped = timedelta(hours=1)
        await look(world, key, seconds=0.5)
        assert not vault.faults
        assert (await verdict(world, key)).outcome is Outcome.USABLE
        await look(world, key, seconds=0.5)
        assert (await verdict(world, key)).suspicion is None


async def test_a_clock_that_is_set_forward_does_not_keep_a_true_denial_from_counting(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await look(world, key, seconds=0.5)
        world.clock.stepped = timedelta(hours=1)
        event = await world.until_told(account, "byokd.account.inaccessible", within=10)
        assert event["data"]["reason"] == "KeyDisabled"


async def test_a_look_right_after_the_first_confirms_no_denial_however_long_it_takes(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        vault.latency = 2.4
        vault.strike(RefusalKind.KEY_DISABLED, "unwrapKey", count=2)
        await look(world, key, seconds=5)
        assert (await verdict(world, key)).suspicion is not None
        await look(world, key, seconds=5)
        assert not vault.faults
        assert (await verdict(world, key)).outcome is Outcome.USABLE


async def test_a_suspicion_whose_commit_looked_lost_goes_when_the_version_is_usable(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        world.store.after, world.store.fail_next = True, "commit_decision"
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        await look(world, key, seconds=1)
        assert (await verdict(world, key)).suspicion is not None
        await asyncio.sleep(10)
        assert (await verdict(world, key)).suspicion is None


async def test_a_clock_that_is_set_forward_confirms_no_denial_whose_commit_looked_lost(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        world.store.after, world.store.fail_next = True, "commit_decision"
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=2)
        await look(world, key, seconds=0.5)
        assert (await verdict(world, key)).suspicion is not None
        assert world.store.failed == ["commit_decision"]
        world.clock.stepped = timedelta(hours=1)
        await look(world, key, seconds=6)
        assert not vault.faults
        assert (await verdict(world, key)).outcome is Outcome.USABLE


async def test_a_version_that_opened_beside_its_checks_is_suspected_from_then_on_only(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        await look(world, key, seconds=2)
        assert (await verdict(world, key)).suspicion is not None
        vault.strike(Mishap.WRONG_VALUE, "unwrapKey", count=1)
        with pytest.raises(RecordDamagedError):
            await reveal(world, account)  # its record is looked into: the probe opens, and the record
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        await asyncio.sleep(4)
        assert not vault.faults
        assert (await verdict(world, key)).outcome is Outcome.USABLE
        await asyncio.sleep(6)
        assert (await verdict(world, key)).suspicion is None


async def test_what_was_learned_of_a_lost_commit_outlives_the_next_commit(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        world.store.after, world.store.fail_next = True, "commit_decision"
        vault.strike(RefusalKind.NETWORK_BLOCKED, "unwrapKey", count=1)
        await look(world, key, seconds=0.5)
        world.clock.stepped = timedelta(hours=1)
        vault.strike(Reason.THROTTLED, "unwrapKey", count=1)
        await look(world, key, seconds=0.5)  # nothing is known of the version, which is stored
        vault.strike(RefusalKind.NETWORK_BLOCKED)
        await look(world, key, seconds=20)
        found = await verdict(world, key)
        # The silence was committed, and then the denials, which do not count yet.
        assert (found.unverified.told, found.unverified.reason) == (False, Reason.NETWORK_BLOCKED)
        assert (found.outcome, found.suspicion.reason) == (Outcome.USABLE, Reason.NETWORK_BLOCKED)
