"""How an account comes to a customer's key: whose it is, what is missing, and how long a fresh grant is waited for."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.admission import Consent
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId
from byokd.domain.vocabulary import EncryptionType, State
from byokd.runtime.registrar import Action
from virtual.registering import OTHERS, SETTINGS, SHARED, SPARE, apply, refused, spec_with, told, vault_of
from virtual.vaults import IDENTITY, TENANT
from virtual.world import MINUTE, World, account_id, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=SETTINGS)


async def test_another_customers_identity_is_refused_before_a_vault_is_asked(world: World) -> None:
    _, key = vault_of(world, "contoso")
    other, other_key = vault_of(world, "fabrikam", OTHERS)
    async with world.running():
        await world.register(key)
        for wanted in (spec_with(2, other_key, tenant=OTHERS), spec_with(2, None, tenant=OTHERS)):
            result = await refused(world, wanted)
            assert "serves accounts of another customer tenant" in result.message
            assert f"identities.{IDENTITY}.shared = true" in result.hint
            assert TENANT not in told(result)
        assert other.calls == []
        assert (await apply(world, spec_with(2, other_key, SPARE, OTHERS)))[0].action is Action.CREATED
        moved = await refused(world, spec_with(2, other_key, IDENTITY, OTHERS))
        assert "serves accounts of another customer tenant" in moved.message


async def test_a_customer_registers_the_key_of_another_and_learns_nothing(world: World) -> None:
    """By an identity that both share: the vault lets it in, and that is why the key itself has to name the account."""
    other, key = vault_of(world, "fabrikam", OTHERS)
    mine, theirs = account_id(1), account_id(2)
    other.tag(theirs)
    version = other.key().newest.id
    absent = KeyIdentifier(key.host, "absent")
    async with world.running():
        (registered,) = await apply(world, spec_with(2, key, SHARED, OTHERS))
        assert registered.action is Action.CREATED
        foreign = await refused(world, spec_with(1, key, SHARED))
        assert "another tenant" in foreign.message, "the tenant is pinned, and the vault names another"
        mistaken = await refused(world, spec_with(1, key, SHARED, OTHERS))
        nothing = await refused(world, spec_with(1, absent, SHARED, OTHERS))
        assert told(mistaken).replace(key.name, "") == told(nothing).replace("absent", "")
        other.key().type, other.key().recovery_level = "EC", "Purgeable"
        other.disable()
        unfit = await refused(world, spec_with(1, key, SHARED, OTHERS))
        assert told(unfit) == told(mistaken), "nor does what the key is like change a word"
        for said in map(told, (foreign, mistaken, nothing)):
            assert not [fact for fact in (version, str(theirs), "2048", "RSA", "Recoverable") if fact in said], said
        assert f"byokd-account={mine}" in mistaken.commands[-1]
        assert await world.sql.account(mine) is None


async def test_a_shared_identity_takes_keys_that_name_the_account_or_are_vouched_for(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        assert "no tag of it says" in (await refused(world, spec_with(1, key, SHARED))).message
        vault.tag(account_id(1), account_id(2))
        results = await apply(world, spec_with(1, key, SHARED), spec_with(2, key, SHARED), spec_with(3, key, SHARED))
        assert [result.action for result in results] == [Action.CREATED, Action.CREATED, Action.REFUSED]
        vouched = await world.service.registrar.apply(spec_with(3, key, SHARED), consent=Consent.ARM_RIGHTS)
        assert vouched.action is Action.CREATED


async def test_a_version_without_tags_is_adopted_and_wanted_again_at_the_next_registration(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    vault.tag(account_id(1), account_id(2))
    async with world.running():
        assert (await apply(world, spec_with(1, key, SHARED)))[0].action is Action.CREATED
        vault.rotate()

        async def is_moved() -> bool:
            return (await world.account(account_id(1))).current == key.at(vault.key().newest.id)

        await world.until(is_moved, within=3 * MINUTE)
        assert "no tag of it says" in (await refused(world, spec_with(2, key, SHARED))).message
        vault.tag(account_id(2))
        assert (await apply(world, spec_with(2, key, SHARED)))[0].action is Action.CREATED
        assert await world.state(account_id(1)) is State.ACCESSIBLE


async def test_customers_create_grant_and_then_set_their_key(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    vault.revoke()
    async with world.running():
        (created,) = await apply(world, spec_with(1, None))
        assert created.action is Action.CREATED
        account = await world.account(account_id(1))
        assert (account.encryption, account.spec.identity) == (EncryptionType.SYSTEM_KEY, IDENTITY)
        assert (await apply(world, spec_with(1, None)))[0].action is Action.UNCHANGED
        assert vault.calls == []
        await refused(world, spec_with(1, key))
        vault.grant()
        (keyed,) = await apply(world, spec_with(1, key))
        assert keyed.action is Action.UPDATED
        assert [call.operation for call in vault.calls if call.outcome == "ok"] == [
            "get",
            *["wrapKey", "unwrapKey"] * 2,
        ]
        after = await world.account(account_id(1))
        assert (after.encryption, after.generation, after.spec.identity) == (EncryptionType.CUSTOMER_KEY, 2, IDENTITY)
        assert (await world.open(after)).account_key


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["apply", "apply", "apply", "delete", "tag"]),
        st.integers(1, 4),
        st.sampled_from([TENANT, OTHERS]),
        st.sampled_from([IDENTITY, SPARE, SHARED]),
        st.sampled_from(["contoso", "fabrikam", None]),
    ),
    max_size=14,
)


@given(acts=ACTS)
@settings(max_examples=40)
def test_whatever_two_customers_apply_and_delete_none_gets_identity_or_key_of_the_other(
    service_keys: Any,  # noqa: ANN401 - a path
    acts: list[tuple[str, int, TenantId, IdentityName, str | None]],
) -> None:
    async def scenario() -> None:
        world = World(service_keys, settings=SETTINGS)
        keys = {"contoso": vault_of(world, "contoso"), "fabrikam": vault_of(world, "fabrikam", OTHERS)}
        named: set[tuple[str, AccountId]] = set()
        async with world.running():
            for act, number, tenant, identity, whose in acts:
                if act == "delete":
                    await world.service.registrar.delete(account_id(number))
                elif act == "tag" and whose is not None:
                    keys[whose][0].tag(account_id(number))
                    named.add((whose, account_id(number)))
                elif act == "apply":
                    key = None if whose is None else keys[whose][1]
                    await world.service.registrar.apply(spec_with(number, key, identity, tenant))
                await _assert_apart(world, named)
        world.close()

    virtually(scenario())


async def _assert_apart(world: World, named: set[tuple[str, AccountId]]) -> None:
    serves: dict[IdentityName, TenantId] = {}
    for account in await world.sql.accounts():
        identity, customer_key = account.spec.identity, account.spec.customer_key
        if identity is not None and identity != SHARED:
            assert serves.setdefault(identity, account.spec.tenant) == account.spec.tenant
        if customer_key is not None:
            vault = world.vaults.vaults[customer_key.key.host]
            assert vault.tenant == account.spec.tenant
            assert identity != SHARED or (vault.host.partition(".")[0], account.id) in named
