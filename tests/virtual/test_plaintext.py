"""Account keys in the clear: few, young, and gone with the first denial."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.domain.vocabulary import Reason, State
from byokd.runtime import plaintext, unwrapping
from byokd.runtime.unusable import InaccessibleError, RecordDamagedError, UnavailableError
from byokd.runtime.values import ValueUnknownError
from byokd.settings import Settings
from virtual.test_plaintext_denials import is_true
from virtual.using import CONTENT, asked, dropped, number, protect, reveal
from virtual.vaults import Mishap
from virtual.world import MINUTE, World, account_id, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


async def test_what_is_held_is_used_without_asking_until_it_is_five_minutes_old(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.latency = 3.0
        begun = world.now
        await protect(world, account)
        assert world.now - begun == pytest.approx(3.0)
        vault.latency = 0.02
        since = world.now
        for _ in range(42):
            assert await reveal(world, account) == CONTENT
            await asyncio.sleep(7)
        assert asked(vault, since=since) == []
        assert len(world.service.plaintext) == 1
        await asyncio.sleep(begun + 5 * MINUTE - world.now + 0.001)
        assert len(world.service.plaintext) == 0, "the age counts from the beginning of the unwrap"
        assert number(world, "byokd_plaintext_drops_total", cause="expired") == 1
        assert await reveal(world, account) == CONTENT
        assert len(asked(vault, since=since)) == 1


async def test_an_unverified_vault_lends_no_time(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        begun = world.now
        await protect(world, account)
        vault.strike(Reason.TIMED_OUT)
        await asyncio.sleep(4 * MINUTE)
        assert await reveal(world, account) == CONTENT
        await asyncio.sleep(begun + 5 * MINUTE - world.now + 0.001)
        with pytest.raises(UnavailableError, match="did not answer: TimedOut"):
            await reveal(world, account)
        assert await world.state(account) is State.ACCESSIBLE
        assert dropped(world) == []
        vault.heal()
        assert await reveal(world, account) == CONTENT


async def test_a_machine_that_slept_holds_nothing_old(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        world.clock.stepped += timedelta(minutes=6)
        since = world.now
        assert await reveal(world, account) == CONTENT
        assert len(asked(vault, since=since)) == 1


async def test_at_the_bound_the_least_recently_used_goes(make_world: Callable[..., World]) -> None:
    settings = Settings()
    values = settings.values.model_copy(update={"most_plaintext": 2})
    world = make_world(settings=settings.model_copy(update={"values": values}))
    vault, key = world.one_vault()
    async with world.running():
        one, two, three = await world.register(key, count=3)
        for account in (one, two):
            await protect(world, account)
        await reveal(world, one)
        await protect(world, three)
        assert len(world.service.plaintext) == 2
        since = world.now
        await reveal(world, one)
        await reveal(world, three)
        assert asked(vault, since=since) == []
        await reveal(world, two)
        assert len(asked(vault, since=since)) == 1
        assert number(world, "byokd_plaintext_held") == 2


async def test_uses_at_once_share_one_unwrap(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        since = world.now
        assert set(await asyncio.gather(*(reveal(world, account) for _ in range(50)))) == {CONTENT}
        assert len(asked(vault, since=since)) == 1


async def test_those_who_wait_for_an_unwrap_that_is_broken_off_go_on(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        vault.latency = 1.0
        first, *others = [asyncio.create_task(reveal(world, account)) for _ in range(4)]
        await asyncio.sleep(0.5)
        first.cancel()
        assert await asyncio.gather(*others) == [CONTENT] * 3


async def test_refusals_reach_all_who_wait(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        vault.disable()
        found = await asyncio.gather(*(reveal(world, account) for _ in range(5)), return_exceptions=True)
        assert [type(error) for error in found] == [InaccessibleError] * 5
        assert len({id(error) for error in found}) == 5
        assert len({(str(error), error.hint) for error in found if isinstance(error, InaccessibleError)}) == 1


async def test_a_hanging_vault_takes_its_share_of_the_unwraps_and_no_more(world: World) -> None:
    slow, slow_key = world.one_vault("slow")
    _, key = world.one_vault()
    async with world.running():
        stuck = await world.register(slow_key, count=unwrapping.MOST_OF_A_VAULT + 1)
        (account,) = await world.register(key, first=50)
        for one in (*stuck, account):
            await protect(world, one)
        await world.restart()
        slow.strike(Mishap.HANG)
        uses = [asyncio.create_task(reveal(world, one)) for one in stuck]
        await asyncio.sleep(0.1)
        assert [use.done() for use in uses] == [False] * unwrapping.MOST_OF_A_VAULT + [True]
        assert isinstance(uses[-1].exception(), UnavailableError)
        assert await reveal(world, account) == CONTENT
        found = await asyncio.gather(*uses, return_exceptions=True)
        assert all(isinstance(error, UnavailableError) for error in found)
        slow.heal()
        assert await reveal(world, stuck[0]) == CONTENT


async def test_without_word_from_the_store_for_two_seconds_it_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)

        async def hanging(_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(world.store, "gate", hanging, raising=False)
        begun = world.now
        with pytest.raises(UnavailableError, match="the database did not answer in time"):
            await reveal(world, account)
        assert world.now - begun == pytest.approx(plaintext.STORE_PATIENCE_SECONDS) == pytest.approx(2)


async def test_a_rewrapped_account_key_is_held_under_its_new_version(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.rotate()
        await world.until_told(account, "byokd.accountkey.rewrapped", within=70)
        since = world.now
        assert await reveal(world, account) == CONTENT
        assert len(asked(vault, since=since)) == 1
        vault.disable(version=1)
        await world.until(lambda: is_true(len(world.service.plaintext) == 0), within=70)
        assert dropped(world) == [1]


async def test_accounts_under_the_system_key_go_the_same_way(world: World) -> None:
    async with world.running():
        await world.service.registrar.apply(spec_of(1, None))
        account = account_id(1)
        await protect(world, account)
        assert await reveal(world, account) == CONTENT
        assert len(world.service.plaintext) == 1
        await asyncio.sleep(5 * MINUTE + 1)
        assert len(world.service.plaintext) == 0
        assert await reveal(world, account) == CONTENT


async def test_a_record_that_the_vault_opens_to_something_else_is_damaged_and_checked(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        await asyncio.sleep(5)
        vault.strike(Mishap.WRONG_VALUE, "unwrapKey", count=1)
        since = world.now
        with pytest.raises(RecordDamagedError, match="does not open"):
            await reveal(world, account)
        await asyncio.sleep(1)
        assert [call for call in vault.called("unwrapKey", since=since) if call.probe]
        assert await reveal(world, account) == CONTENT


async def test_a_deleted_account_has_nothing_left(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.service.registrar.delete(account)
        await world.register(key)
        with pytest.raises(ValueUnknownError):
            await reveal(world, account)
        assert await world.service.values.list(account) == []
