"""Damaged accounts: found by whoever meets them, alone refused, no denial, and ended by nothing but a proof."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from byokd.adapters.sql.tables import account_keys
from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.payload import Payload
from byokd.domain.vocabulary import AccountFault, Reason, RefusalKind, State
from byokd.ports import KeyTarget, SealBrokenError, ServiceKeyMissingError
from byokd.runtime.health import Component
from byokd.runtime.layers import Layers
from byokd.runtime.unusable import AccountDamagedError, InaccessibleError, RecordDamagedError, UnavailableError
from virtual.using import CONTENT, asked, number, protect, reveal
from virtual.vaults import IDENTITY, TENANT, Mishap, Vault
from virtual.world import MINUTE, World, spec_of, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

DAMAGED, REPAIRED = "byokd.account.damaged", "byokd.account.repaired"
REWRAPPED, INACCESSIBLE = "byokd.accountkey.rewrapped", "byokd.account.inaccessible"


async def put(world: World, account: AccountId, sealed: bytes) -> bytes:
    """Put other bytes in the place of an account's present key; give those that were there."""
    before = await world.sql.wrapped_key(account)
    assert before is not None
    present = (account_keys.c.account == str(account)) & (account_keys.c.generation == before.generation)
    await world.sql._runner.write(lambda c: c.execute(update(account_keys).where(present).values(sealed=sealed)))
    return before.sealed.data


async def tear(world: World, account: AccountId) -> bytes:
    """Damage our own layer."""
    return await put(world, account, b"torn")


async def misplace(world: World, account: AccountId) -> bytes:
    """Under a good seal, a wrap that the vault opens to something else."""
    wrapped, exact = await world.sql.wrapped_key(account), (await world.account(account)).current
    assert wrapped is not None
    assert exact is not None
    layers, genuine = Layers(world.sealer, world.cipher), await world.open(await world.account(account))
    other = Payload.bind(b"f" * 32, account=account, generation=wrapped.generation)
    inner = await world.vaults.kept.wrap(KeyTarget(IDENTITY, TENANT, exact), other.encode())
    assert isinstance(inner, bytes)
    return await put(world, account, layers.wrap(genuine, account, by_customer=(exact, inner)).data)


async def garble(world: World, account: AccountId) -> bytes:
    """Under a good seal, what the vault calls invalid."""
    exact, genuine = (await world.account(account)).current, await world.open(await world.account(account))
    assert exact is not None
    layers = Layers(world.sealer, world.cipher)
    return await put(world, account, layers.wrap(genuine, account, by_customer=(exact, b"?" * 256)).data)


async def use(world: World, account: AccountId) -> None:
    with pytest.raises((RecordDamagedError, InaccessibleError)):
        await reveal(world, account)


async def rewrap(world: World, account: AccountId) -> None:
    vault = next(iter(world.vaults.all()))
    vault.rotate()
    await world.until_told(account, "byokd.accountkey.rewrap-failed", within=80)


async def verify(world: World, account: AccountId | None = None) -> None:  # noqa: ARG001 - as the others
    async for _ in world.service.verifier.findings():
        pass


Damaging = Callable[[World, AccountId], Awaitable[bytes]]
Meeting = Callable[[World, AccountId], Awaitable[None]]


@pytest.mark.parametrize("meet", [use, rewrap, verify])
@pytest.mark.parametrize("harm", [tear, misplace, garble])
async def test_whoever_meets_it_finds_the_damage_and_it_alone_is_refused(
    world: World, harm: Damaging, meet: Meeting
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        account, other = await world.register(key, count=2)
        for one in (account, other):
            await protect(world, one)
        await world.restart()
        good = await harm(world, account)
        await meet(world, account)
        told = await world.until_told(account, DAMAGED, within=2)
        assert (told["data"]["state"], told["data"]["reason"]) == ("Accessible", None)
        assert told["data"]["damagedSince"]
        since = world.now
        for _ in range(3):
            with pytest.raises(AccountDamagedError, match=AccountFault.ACCOUNT_KEY_DAMAGED) as refused:
                await reveal(world, account)
            assert "byokd keys verify" in refused.value.hint
        assert asked(vault, since=since) == [], "refused before any unwrap"
        await asyncio.sleep(MINUTE)
        assert await reveal(world, other) == CONTENT
        assert [await world.state(one) for one in (account, other)] == [State.ACCESSIBLE] * 2
        assert not world.told(account, INACCESSIBLE) + world.told(other, INACCESSIBLE) + world.told(other, DAMAGED)
        assert [entry["account"] for entry in world.logs if entry["event"] == "account-damaged"] == [str(account)]
        assert number(world, "byokd_accounts_damaged") == 1
        assert not world.service.health.is_well(Component.ACCOUNTS)
        await put(world, account, good)
        await verify(world)
        await world.until_told(account, REPAIRED, within=2)
        assert await reveal(world, account) == CONTENT
        await asyncio.sleep(3)
        assert world.service.health.is_well(Component.ACCOUNTS)
        assert len(world.told(account, DAMAGED)) == 1
        await world.assert_converged()


@pytest.mark.parametrize(
    "trouble",
    [
        lambda vault, version: vault.strike(Mishap.WRONG_VALUE, "unwrapKey", version=version),
        lambda vault, version: vault.strike(RefusalKind.BAD_REQUEST, "unwrapKey", version=version),
        lambda vault, version: vault.strike(RefusalKind.ACCESS_DENIED, "unwrapKey", version=version),
        lambda vault, version: vault.strike(Reason.THROTTLED, "unwrapKey", version=version),
        lambda vault, version: vault.strike(Mishap.DEFECT, "unwrapKey", version=version),
    ],
    ids=["another value", "bad request", "denied", "throttled", "defect"],
)
async def test_while_the_probe_does_not_open_nobody_is_damaged(
    world: World, trouble: Callable[[Vault, str], None]
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        account, torn = await world.register(key, count=2)
        for one in (account, torn):
            await protect(world, one)
        await world.restart()
        await tear(world, torn)
        trouble(vault, vault.key().newest.id)
        for one in (account, torn):
            with pytest.raises((RecordDamagedError, InaccessibleError, UnavailableError, RuntimeError)):
                await reveal(world, one)
        if not any(fault.answer is Mishap.DEFECT for fault in vault.faults):
            await verify(world)
        assert [(await world.account(one)).damage for one in (account, torn)] == [None, None]


async def test_one_odd_answer_damages_nobody(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        for answer in (Mishap.WRONG_VALUE, RefusalKind.BAD_REQUEST):
            await world.restart()
            await asyncio.sleep(5)
            vault.strike(answer, "unwrapKey", count=1)
            await use(world, account)
            assert (await world.account(account)).damage is None
            assert await reveal(world, account) == CONTENT


async def test_a_service_key_that_is_missing_is_never_damage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key = world.one_vault()

    broken = iter([ServiceKeyMissingError, SealBrokenError, *[ServiceKeyMissingError] * 9])

    def fails(*_: object, **__: object) -> bytes:
        raise next(broken)("the storage key 1 is not there")

    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        with monkeypatch.context() as patch:
            patch.setattr(type(world.sealer), "open", fails)
            for error in (UnavailableError, RecordDamagedError):
                with pytest.raises(error):
                    await reveal(world, account)
        assert len(list(broken)) == 8, "the look met it too"
        assert (await world.account(account)).damage is None
        assert await reveal(world, account) == CONTENT


async def test_accounts_under_the_system_key_and_without_any_record_are_found_too(world: World) -> None:
    async with world.running():
        for count in (1, 2, 3):
            await world.service.registrar.apply(spec_of(count, None))
        torn, gone, good = [spec_of(count, None).id for count in (1, 2, 3)]
        bytes_before = await tear(world, torn)
        await world.sql._runner.write(
            lambda c: c.execute(delete(account_keys).where(account_keys.c.account == str(gone)))
        )
        await verify(world)
        assert [(await world.account(one)).damage is None for one in (torn, gone, good)] == [False, False, True]
        await put(world, torn, bytes_before)
        await world.service.damages.try_again(await world.account(torn))
        await world.service.damages.try_again(await world.account(gone))
        assert [(await world.account(one)).damage is None for one in (torn, gone, good)] == [True, False, True]
        assert await world.service.registrar.delete(gone)


async def test_damage_outlives_restarts_reloads_rotations_and_denials_and_others_go_on(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        account, *others = await world.register(key, count=5)
        for one in (account, *others):
            await protect(world, one)
        good = await garble(world, account)
        await verify(world)
        before = (await world.account(account)).damage
        assert before is not None
        await world.restart()
        await world.reload()
        await asyncio.sleep(MINUTE)
        vault.rotate()
        for one in others:
            await world.until_told(one, REWRAPPED, within=80)
        since = world.now
        await asyncio.sleep(20 * MINUTE)
        assert 2 <= len(asked(vault, since=since)) <= 8, "tried on, rarely"
        vault.disable()
        await world.until_told(account, INACCESSIBLE, within=80)
        with pytest.raises(InaccessibleError):
            await reveal(world, account)
        vault.enable()
        await world.until_told(account, "byokd.account.accessible", within=80)
        assert (await world.account(account)).damage == before
        assert len(world.told(account, DAMAGED)) == 1
        await put(world, account, good)
        await world.until_told(account, REWRAPPED, within=11 * MINUTE)
        await world.until_told(account, REPAIRED, within=1)
        for one in (account, *others):
            assert await reveal(world, one) == CONTENT
        await world.assert_converged()


async def test_what_is_held_in_the_clear_of_a_damaged_account_is_dropped_at_its_next_use(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await tear(world, account)
        assert await reveal(world, account) == CONTENT, "held, and nobody knows"
        await verify(world)
        with pytest.raises(AccountDamagedError):
            await reveal(world, account)
        assert len(world.service.plaintext) == 0
        assert number(world, "byokd_plaintext_drops_total", cause="damaged") == 1
        with pytest.raises(AccountDamagedError):
            await protect(world, account)


COUNT = 5
HARMS: dict[str, Damaging] = {"torn": tear, "misplaced": misplace, "garbled": garble}


@settings(max_examples=15)
@given(
    harmed=st.dictionaries(st.integers(0, COUNT - 1), st.sampled_from(sorted(HARMS))),
    steps=st.lists(st.sampled_from(["verify", "use", "rotate", "restart", "check", "odd", "deny"]), max_size=5),
    seed=st.integers(0, 99),
)
def test_damage_of_any_accounts_of_a_key_touches_no_other_and_every_healthy_one_stays_usable(
    service_keys: Path, harmed: dict[int, str], steps: list[str], seed: int
) -> None:
    async def scenario() -> None:
        vault, key = world.one_vault()
        async with world.running():
            accounts = await world.register(key, count=COUNT)
            for account in accounts:
                await protect(world, account)
            await world.restart()
            kept = {accounts[index]: await HARMS[harm](world, accounts[index]) for index, harm in harmed.items()}
            for step in steps:
                await _step(world, vault, key, step, accounts)
            await verify(world)
            for account in accounts:
                found = await world.account(account)
                assert found.state is State.ACCESSIBLE
                assert (found.damage is not None) is (account in kept)
                if account in kept:
                    with pytest.raises(AccountDamagedError):
                        await reveal(world, account)
                else:
                    assert await reveal(world, account) == CONTENT
                    assert not world.told(account, DAMAGED)
            for account, good in kept.items():
                await put(world, account, good)
            await verify(world)
            for account in accounts:
                assert await reveal(world, account) == CONTENT
                assert len(world.told(account, DAMAGED)) == len(world.told(account, REPAIRED)) == (account in kept)
            await world.assert_converged()

    world = World(service_keys, seed=seed)
    virtually(scenario())
    world.close()


async def _step(world: World, vault: Vault, key: KeyIdentifier, step: str, accounts: list[AccountId]) -> None:
    if step == "verify":
        await verify(world)
    elif step == "use":
        await asyncio.gather(*(reveal(world, account) for account in accounts), return_exceptions=True)
    elif step == "rotate":
        vault.rotate()
        await asyncio.sleep(MINUTE)
    elif step == "restart":
        await world.restart()
    elif step == "check":
        await world.service.scheduler.check_now((await world.watch(key)).id)
    elif step == "odd":
        vault.strike(Mishap.WRONG_VALUE, "unwrapKey", count=1)
        await asyncio.gather(*(reveal(world, account) for account in accounts), return_exceptions=True)
    else:
        watch = (await world.watch(key)).id
        vault.disable()
        for _ in range(2):
            await world.service.scheduler.check_now(watch)
            await asyncio.sleep(5)
        vault.enable()
        await world.service.scheduler.check_now(watch)
        await world.until(lambda: _usable(world, accounts), within=10)


async def _usable(world: World, accounts: list[AccountId]) -> bool:
    return all([await world.state(account) is State.ACCESSIBLE for account in accounts])
