"""Account keys in the clear, and denials: the first drops them, and nothing older is used after it."""

import asyncio
from collections.abc import Callable

import pytest

from byokd.domain.vocabulary import DetectedBy, Reason, RefusalKind, State
from byokd.ports import StoreUnavailableError
from byokd.runtime.unusable import InaccessibleError
from store.builders import denial, suspicion
from virtual.using import CONTENT, asked, commit, dropped, protect, reveal, settle
from virtual.vaults import Mishap, Vault
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


@pytest.mark.parametrize(
    "revoke",
    [
        Vault.disable,
        Vault.revoke,
        Vault.delete,
        Vault.block,
        lambda vault: vault.strike(Mishap.WRONG_VALUE, "unwrapKey"),
    ],
    ids=["disabled", "revoked", "deleted", "blocked", "another value"],
)
async def test_the_first_denial_drops_all_of_that_version_though_nothing_is_confirmed(
    world: World, revoke: Callable[[Vault], None]
) -> None:
    vault, key = world.one_vault()
    _, other = world.one_vault("other")
    async with world.running():
        ours = await world.register(key, count=3)
        (theirs,) = await world.register(other, first=9)
        for account in (*ours, theirs):
            await protect(world, account)
        revoke(vault)
        since = world.now
        await world.until(lambda: is_true(len(world.service.plaintext) == 1), within=66 + 0.1)
        (first,) = [call for call in vault.called("unwrapKey", since=since) if call.outcome != "ok"]
        assert world.now - first.ended <= 0.1
        assert dropped(world) == [3]
        assert await world.state(ours[0]) is State.ACCESSIBLE, "it is not confirmed yet"
        assert await reveal(world, theirs) == CONTENT


async def is_true(value: bool) -> bool:  # noqa: FBT001 - a condition to wait for
    return value


async def test_the_drop_waits_neither_for_the_rest_of_the_check_nor_for_the_store(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey")
        vault.strike(Mishap.HANG, "get")
        world.store.fail_at = frozenset(range(world.store.calls + 1, world.store.calls + 10_000))
        since = world.now
        await world.until(lambda: is_true(len(world.service.plaintext) == 0), within=70)
        refusal = next(call for call in vault.called("unwrapKey", since=since) if call.outcome != "ok")
        assert world.now - refusal.ended <= 0.11
        assert (await world.watch(key)).current_version.verdict.suspicion is None, "nothing could be stored"
        world.store.fail_at = frozenset()
        with pytest.raises(InaccessibleError):
            await reveal(world, account)


async def test_while_suspected_every_use_unwraps_and_nothing_is_kept(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.blocked = True
        await world.until(lambda: is_true(len(world.service.plaintext) == 0), within=70)
        vault.blocked = False
        for uses in range(1, 4):
            since = world.now
            assert await reveal(world, account) == CONTENT
            assert len(asked(vault, since=since)) == 1, uses
            assert len(world.service.plaintext) == 0
        assert (await world.watch(key)).current_version.verdict.suspicion is not None
        await asyncio.sleep(MINUTE)
        await reveal(world, account)
        assert len(world.service.plaintext) == 1, "a check found it usable, so that it may be kept again"


async def test_a_suspicion_that_only_the_store_knows_counts_too(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await commit(world, key, **suspicion(await world.watch(key)))
        since = world.now
        assert await reveal(world, account) == CONTENT
        assert len(asked(vault, since=since)) == 1
        assert len(world.service.plaintext) == 0
        await world.crash()
        await world.start()
        since = world.now
        await reveal(world, account)
        assert len(asked(vault, since=since)) == 1


async def test_a_use_that_meets_the_denial_itself_drops_and_has_the_key_checked_at_once(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        met, other = await world.register(key, count=2)
        for account in (met, other):
            await protect(world, account)
        await world.restart()
        await reveal(world, other)
        await asyncio.sleep(10)
        vault.disable()
        begun = world.now
        with pytest.raises(InaccessibleError, match="unwrap the account key: the key version is disabled") as refused:
            await reveal(world, met)
        assert refused.value.hint == "enable it in the vault"
        assert len(world.service.plaintext) == 0
        event = await world.until_told(other, "byokd.account.inaccessible", within=6)
        assert event["data"]["detectedBy"] in {DetectedBy.HINT, DetectedBy.POLL}
        assert world.now - begun < 6, "typically 6 s: the hint, and confirm_after"


async def test_refused_uses_do_not_ask_for_a_check_each(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        await asyncio.sleep(10)
        vault.blocked = True
        since = world.now
        for _ in range(20):
            with pytest.raises(InaccessibleError):
                await reveal(world, account)
        assert len([call for call in vault.called("unwrapKey", since=since) if call.probe]) <= 2


async def test_a_denial_met_by_a_rewrap_drops_what_is_held(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.rotate()
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", version=vault.key().versions[0].id)
        vault.faults[0].count = None
        await world.until(lambda: is_true(len(world.service.plaintext) == 0), within=70)


async def test_an_unwrap_that_began_before_a_denial_is_neither_kept_nor_used(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        await asyncio.sleep(5)
        vault.latency = 4.0
        use = asyncio.create_task(reveal(world, account))
        await settle()
        vault.latency = 0.02
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        watch = (await world.watch(key)).id
        await world.service.scheduler.check_now(watch)
        since = world.now
        await world.service.scheduler.check_now(watch)
        assert (await world.watch(key)).current_version.verdict.suspicion is None, "denied, and usable again"
        assert await use == CONTENT
        assert len(asked(vault, since=since)) == 1, "it had to be asked for again"


@pytest.mark.parametrize("use", [protect, reveal], ids=["protect", "reveal"])
async def test_a_use_on_its_way_when_the_denial_is_committed_is_refused(
    world: World, use: Callable[..., "asyncio.Future[object]"]
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        vault.latency = 4.0
        using = asyncio.create_task(use(world, account))  # type: ignore[arg-type]
        await asyncio.sleep(1)
        await commit(world, key, **denial(Reason.KEY_DISABLED, when=world.clock.now()))
        assert await world.state(account) is State.ACCESSIBLE, "the accounts follow later"
        with pytest.raises(InaccessibleError, match="Inaccessible: denied: KeyDisabled") as refused:
            await using
        assert refused.value.reason is Reason.KEY_DISABLED
        assert "enable the key version" in refused.value.hint
        assert asked(vault)[-1].outcome == "ok", "the vault would have let it"


async def test_ten_thousand_accounts_close_by_the_verdict_not_by_their_own_rows(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=3)
        for account in accounts:
            await protect(world, account)
        await commit(world, key, **denial(when=world.clock.now()))
        for account in accounts:
            with pytest.raises(InaccessibleError):
                await reveal(world, account)
        assert len(world.service.plaintext) == 0


async def test_a_denial_that_could_not_be_stored_is_doubt_enough(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)

        async def failing(*_: object, **__: object) -> None:
            raise StoreUnavailableError("the disk is full", hint="make room")

        monkeypatch.setattr(world.store, "commit_decision", failing, raising=False)
        vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", count=1)
        await world.until(lambda: is_true(len(world.service.plaintext) == 0), within=70)
        for _ in range(3):
            since = world.now
            assert await reveal(world, account) == CONTENT
            assert len(asked(vault, since=since)) == 1
            assert len(world.service.plaintext) == 0
        await asyncio.sleep(10)
        await reveal(world, account)
        assert len(world.service.plaintext) == 1, "the next check found it usable"
