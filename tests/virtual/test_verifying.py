"""Verification: everything that opens is proved, everything that does not is named, and nothing is changed."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import delete, insert, update

from byokd.adapters.sql.tables import account_keys, protected_values
from byokd.domain.identifiers import AccountId
from byokd.domain.payload import Payload, PayloadInvalidError
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import KeyTarget, SealContext, ServiceKey
from byokd.records import WrappedKey
from byokd.runtime.layers import Layers
from byokd.runtime.registrar import Action
from byokd.runtime.verifying import Finding, Proof, Verifier
from store.builders import Stage
from virtual.vaults import IDENTITY, TENANT, Mishap
from virtual.world import MINUTE, World, account_id, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


async def verified(world: World, *, vaults: bool = True) -> list[Finding]:
    verifier = Verifier(
        world.sql,
        Layers(world.sealer, world.cipher),
        world.vaults.kept if vaults else None,
        clock=world.clock,
        deadline=world.settings.rewrap.deadline,
        concurrency=4,
    )
    before = await sealed_in(world)
    found = [finding async for page in verifier.findings() for finding in page]
    assert await sealed_in(world) == before
    return found


async def sealed_in(world: World) -> list[object]:
    """What is sealed; the rest goes on changing while the service runs."""
    contents = await Stage(world.sql).contents()
    return [contents[name] for name in ("account_keys", "protected_values", "service_keys", "rotations")]


async def wrapped(world: World, account: AccountId) -> WrappedKey:
    found = await world.sql.wrapped_key(account)
    assert found is not None
    return found


async def put(world: World, account: AccountId, **values: object) -> None:
    row = update(account_keys).where(account_keys.c.account == str(account)).values(**values)
    await world.sql._runner.write(lambda c: c.execute(row))


async def protect(world: World, account: AccountId, *, name: str = "one", moved: str | None = None) -> None:
    """Store a protected value, or one that belongs elsewhere."""
    payload = await world.open(await world.account(account))
    context = SealContext(account, kind="content-key", name=moved or name, generation=1, key_identifier="")
    inner = world.cipher.encrypt(payload.account_key, b"a content key", context=context)
    context = replace(context, name=name)
    row = {
        "account": str(account),
        "kind": "content-key",
        "name": name,
        "revision": 1,
        "sealed": world.sealer.seal(ServiceKey.STORAGE, inner, context=context),
        "storage_key": "1",
        "created_at": world.clock.now(),
        "updated_at": world.clock.now(),
    }
    await world.sql._runner.write(lambda c: c.execute(insert(protected_values), row))


async def with_system_key(world: World, number: int) -> AccountId:
    result = await world.service.registrar.apply(spec_of(number, None))
    assert result.action is Action.CREATED
    return account_id(number)


def bad(findings: list[Finding]) -> dict[tuple[str, str], tuple[Proof, str]]:
    return {(finding.account, finding.what): (finding.proof, finding.reason) for finding in findings if finding.is_bad}


KEY = "account key, generation 1"
DAMAGED = (Proof.DAMAGED, "Damaged")


async def test_everything_that_opens_is_proved_superseded_wraps_and_values_too(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        accounts = await world.register(key, count=3)
        accounts.append(await with_system_key(world, 4))
        for account in accounts:
            await protect(world, account)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        await world.until(lambda: moved(world, accounts[0]), within=70)
        findings = await verified(world)
        assert {finding.proof for finding in findings} == {Proof.OPENS}
        assert len(findings) == 4 + 3 + 4
        assert sum(finding.what == f"superseded {KEY}" for finding in findings) == 3


async def moved(world: World, account: AccountId) -> bool:
    return (await world.account(account)).generation == 2


async def test_an_account_whose_key_is_not_even_there_is_named(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        first, second = await world.register(key, count=2)
        third = await with_system_key(world, 3)
        assert bad(await verified(world)) == {}
        for account in (first, third):
            row = delete(account_keys).where(account_keys.c.account == str(account))
            await world.sql._runner.write(lambda c, row=row: c.execute(row))
        findings = await verified(world)
        assert bad(findings) == {(str(account), "account key"): DAMAGED for account in (first, third)}
        assert (str(second), Proof.OPENS) in {(finding.account, finding.proof) for finding in findings}


async def test_offline_a_customers_layer_is_left_and_the_vault_is_not_asked(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (theirs,) = await world.register(key)
        ours = await with_system_key(world, 2)
        for account in (theirs, ours):
            await protect(world, account)
        calls = [call for call in vault.calls if call.way == "kept"]
        findings = await verified(world, vaults=False)
        assert [call for call in vault.calls if call.way == "kept"] == calls
        proofs = {(finding.account, finding.what[:7]): finding.proof for finding in findings}
        assert proofs == {
            (str(theirs), "account"): Proof.TO_THE_VAULT,
            (str(theirs), "protect"): Proof.TO_THE_VAULT,
            (str(ours), "account"): Proof.OPENS,
            (str(ours), "protect"): Proof.OPENS,
        }


async def test_a_wrap_that_was_flipped_swapped_or_moved_is_named(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        flipped, one, other, good = await world.register(key, count=4)
        before, swapped = await wrapped(world, flipped), (await wrapped(world, one), await wrapped(world, other))
        data = before.sealed.data
        await put(world, flipped, sealed=data[:60] + bytes([data[60] ^ 1]) + data[61:])
        await put(world, one, sealed=swapped[1].sealed.data)
        await put(world, other, sealed=swapped[0].sealed.data)
        aged = await with_system_key(world, 9)
        await put(world, aged, generation=5)
        found = bad(await verified(world))
        assert found == {
            (str(flipped), KEY): DAMAGED,
            (str(one), KEY): DAMAGED,
            (str(other), KEY): DAMAGED,
            (str(aged), "account key, generation 5"): DAMAGED,
            (str(aged), "account key"): DAMAGED,
        }
        assert str(good) not in {account for account, _ in found}
        # And without the vaults as well.
        assert bad(await verified(world, vaults=False)) == found


async def test_a_wrap_of_another_account_under_this_ones_seal_is_named_once_the_vault_opened_it(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        victim, other = await world.register(key, count=2)
        layers, exact = Layers(world.sealer, world.cipher), (await world.account(victim)).current
        assert exact is not None
        foreign = layers.uncover(await wrapped(world, other))
        payload = await world.open(await world.account(victim))
        forged = layers.wrap(payload, victim, by_customer=(exact, foreign.inner))
        await put(world, victim, sealed=forged.data)
        assert bad(await verified(world)) == {(str(victim), KEY): DAMAGED}
        assert bad(await verified(world, vaults=False)) == {}


async def test_another_account_key_in_a_well_formed_payload_is_told_by_its_check_value(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        layers, exact = Layers(world.sealer, world.cipher), (await world.account(account)).current
        assert exact is not None
        # Whoever has the customer's public key can wrap a payload for any account.
        forged = Payload.bind(b"f" * 32, account=account, generation=1)
        inner = await world.vaults.kept.wrap(KeyTarget(IDENTITY, TENANT, exact), forged.encode())
        assert isinstance(inner, bytes)
        genuine = await world.open(await world.account(account))
        sealed = layers.wrap(genuine, account, by_customer=(exact, inner))
        await put(world, account, sealed=sealed.data)
        with pytest.raises(PayloadInvalidError, match="another account key"):
            await world.open(await world.account(account))
        assert bad(await verified(world)) == {(str(account), KEY): DAMAGED}


async def test_a_record_that_names_another_key_than_sealed_it_is_damaged(world: World) -> None:
    async with world.running():
        one, other = await with_system_key(world, 1), await with_system_key(world, 2)
        await put(world, one, storage_key="7")
        await put(world, other, system_key="7")
        assert bad(await verified(world)) == {(str(one), KEY): DAMAGED, (str(other), KEY): DAMAGED}


async def test_a_seal_of_a_key_that_is_not_there_is_unproved_not_damaged(world: World) -> None:
    async with world.running():
        account = await with_system_key(world, 1)
        sealed = (await wrapped(world, account)).sealed
        # The version, the length of the id, the id.
        await put(world, account, sealed=b"\x01\x017" + sealed.data[3:], storage_key="7")
        assert bad(await verified(world)) == {(str(account), KEY): (Proof.UNPROVED, "ServiceKeyMissing")}


async def test_a_value_in_anothers_place_is_named(world: World) -> None:
    async with world.running():
        account = await with_system_key(world, 1)
        await protect(world, account, name="one")
        await protect(world, account, name="two", moved="three")
        assert bad(await verified(world)) == {(str(account), "protected value content-key/two"): DAMAGED}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (RefusalKind.ACCESS_DENIED, (Proof.UNPROVED, "AccessDenied")),
        (RefusalKind.KEY_DISABLED, (Proof.UNPROVED, "KeyDisabled")),
        (RefusalKind.BAD_REQUEST, DAMAGED),
        (Reason.THROTTLED, (Proof.UNPROVED, "Throttled")),
        (Mishap.WRONG_VALUE, DAMAGED),
    ],
)
async def test_what_a_vault_refuses_is_told_apart_from_damage(
    world: World, answer: RefusalKind | Reason | Mishap, expected: tuple[Proof, str]
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.strike(answer, "unwrapKey")
        found = bad(await verified(world))
        assert found == {
            (str(account), KEY): expected,
            (str(account), "protected value content-key/one"): (Proof.UNPROVED, "AccountKey"),
        }


async def test_a_throttled_vault_is_asked_again_and_a_silent_one_left_alone(world: World) -> None:
    throttled, key = world.one_vault("throttled")
    silent, other = world.one_vault("silent")
    async with world.running():
        await world.register(key, count=2)
        await world.register(other, first=10, count=40)
        throttled.strike(Reason.THROTTLED, "unwrapKey", count=1)
        silent.strike(Reason.CONNECTION_FAILED, "unwrapKey")
        before = world.now
        findings = await verified(world)
        reasons = [finding.reason for finding in findings]
        assert reasons.count("") == 2
        assert reasons.count("ConnectionFailed") <= 4
        assert reasons.count("NotTried") >= 36
        assert world.now - before < 60


async def test_no_more_vaults_are_asked_at_once_than_the_setting_allows(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key, count=30)
        vault.most_running = 0
        findings = await verified(world)
        assert {finding.proof for finding in findings} == {Proof.OPENS}
        assert 2 <= vault.most_running <= 5


async def test_what_was_replaced_while_it_was_looked_at_is_looked_at_again(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        good = (await wrapped(world, account)).sealed
        await put(world, account, sealed=b"\x01\x011" + b"torn" * 20)
        store = world.sql

        class Mended:
            def __getattr__(self, name: str) -> object:
                return getattr(store, name)

            async def stored_keys(self, **kwargs: object) -> object:
                page = await store.stored_keys(**kwargs)
                await put(world, account, sealed=good.data)
                return page

        verifier = Verifier(
            Mended(),
            Layers(world.sealer, world.cipher),
            world.vaults.kept,
            clock=world.clock,
            deadline=world.settings.rewrap.deadline,
            concurrency=1,
        )
        (found,) = [finding async for page in verifier.findings() for finding in page]
        assert found == Finding(str(account), KEY, Proof.OPENS)
