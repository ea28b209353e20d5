"""Doubts, and what is held in the clear, where something else than a check or a use comes between."""

import asyncio

import pytest

from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.runtime.unusable import InaccessibleError
from virtual.using import CONTENT, asked, dropped, protect, reveal, settle
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


async def test_a_reload_ends_no_doubt(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        await asyncio.sleep(MINUTE)
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        vault.strike(Reason.TIMED_OUT)
        with pytest.raises(InaccessibleError):
            await reveal(world, account)
        await asyncio.sleep(1)
        await world.reload()
        vault.heal()
        since = world.now
        for _ in range(3):
            assert await reveal(world, account) == CONTENT
        assert len(asked(vault, since=since)) == 3, "no check has found it usable since"
        await asyncio.sleep(2 * MINUTE)
        since = world.now
        for _ in range(3):
            assert await reveal(world, account) == CONTENT
        assert len(asked(vault, since=since)) == 1


async def test_who_holds_something_ends_with_nothing_held(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        for end in (world.reload, world.restart):
            before = world.service.plaintext
            await reveal(world, account)
            assert len(before) == 1
            await end()
            assert len(before) == 0, "nobody would drop it at a denial, or when it is old"


async def test_a_denial_met_by_a_verification_drops_what_is_held(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(5)
        await protect(world, account)
        vault.disable()
        assert [finding async for page in world.service.verifier.findings() for finding in page if finding.is_bad]
        assert dropped(world) == [1]


async def test_a_refusal_to_wrap_is_no_denial_but_has_the_key_checked(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await asyncio.sleep(30)
        vault.revoke("wrapKey")
        since = world.now
        watch = await world.watch(key)
        target = next(iter(world.service.plaintext._of_target))
        assert target is not None
        await world.service.keys.wrap(target, b"a payload")
        await settle()
        await asyncio.sleep(0.5)
        assert [call for call in vault.called("unwrapKey", since=since) if call.probe]
        assert watch.id == (await world.watch(key)).id
        assert len(world.service.plaintext) == 1
