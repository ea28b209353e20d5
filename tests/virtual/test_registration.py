"""How an account comes to a customer's key: whose it is, what is missing, and how long a fresh grant is waited for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from byokd.adapters.sql.tables import account_keys, accounts, events, identity_claims, vaults, watches
from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.admission import Consent
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.domain.properties import VaultProperties
from byokd.domain.vocabulary import EncryptionType, State
from byokd.ports import KeyTarget
from byokd.runtime.applying import apply_all
from byokd.runtime.registrar import Action, Result
from byokd.settings import IdentitySettings, RegistrationSettings, Settings
from virtual.vaults import IDENTITY, OPERATIONS, TENANT, Operation, Vault
from virtual.world import MINUTE, World, account_id, spec_of, virtually

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

OTHERS = TenantId("99999999-2222-3333-4444-555555555555")
CLIENT = "c11e0000-0000-0000-0000-000000000000"
SPARE, SHARED = IdentityName("spare"), IdentityName("shared")
IDENTITIES: Mapping[str, IdentitySettings] = {
    IDENTITY: IdentitySettings(client_id=CLIENT),
    SPARE: IdentitySettings(client_id="5ba6e000-0000-0000-0000-000000000000"),
    SHARED: IdentitySettings(shared=True),
}
SETTINGS = Settings(identities=IDENTITIES)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=SETTINGS)


def spec_with(
    number: int, key: KeyIdentifier | None, identity: IdentityName = IDENTITY, tenant: TenantId = TENANT
) -> AccountSpec:
    if key is None:
        return AccountSpec(account_id(number), tenant, "westeurope", None, identity)
    return AccountSpec(account_id(number), tenant, "westeurope", CustomerKey(identity, key))


def vault_of(world: World, name: str, tenant: TenantId = TENANT) -> tuple[Vault, KeyIdentifier]:
    """A vault that lets every identity in: what keeps customers apart must not hang on their care."""
    vault, key = world.one_vault(name)
    vault.tenant = tenant
    vault.grants = dict.fromkeys((IDENTITY, SPARE, SHARED), OPERATIONS)
    return vault, key


async def apply(world: World, *specs: AccountSpec) -> list[Result]:
    wait = world.settings.registration.wait_for_grant
    return await apply_all(world.service.registrar, specs, clock=world.clock, wait_for_grant=wait)


async def contents(world: World) -> Any:  # noqa: ANN401 - rows
    """All that a registration writes, and no check or publication."""
    kept = [
        accounts.c["id", "tenant", "location", "generation", "watch", "attached_identity"],
        account_keys.c,
        watches.c["id", "identity", "tenant", "host", "key_name", "pinned"],
        identity_claims.c,
        [vaults.c.host],
    ]
    told = select(events.c.id).where(events.c.type.in_(["byokd.account.created", "byokd.account.updated"]))
    return await world.sql._runner.read(
        lambda connection: (
            [sorted(map(str, connection.execute(select(*columns)))) for columns in kept]
            + [sorted(connection.scalars(told))]
        )
    )


async def refused(world: World, spec: AccountSpec) -> Result:
    """Apply what must be refused, with nothing changed."""
    before = await contents(world)
    (result,) = await apply(world, spec)
    assert result.action is Action.REFUSED, result
    assert await contents(world) == before
    return result


def told(result: Result) -> str:
    return " ".join((result.message, result.hint, *result.warnings, *result.commands))


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


MISSING: list[tuple[set[Operation], str]] = [
    ({"get"}, "get; whether wrapKey and unwrapKey too cannot be told without it"),
    ({"wrapKey"}, "wrapKey"),
    ({"unwrapKey"}, "unwrapKey"),
    ({"wrapKey", "unwrapKey"}, "wrapKey and unwrapKey"),
]


@pytest.mark.parametrize(
    ("taken", "said"), MISSING, ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else ""
)
@pytest.mark.parametrize("joining", [False, True], ids=["first", "joining"])
async def test_the_missing_permission_is_named_with_the_commands_that_give_it(
    world: World,
    taken: set[Operation],
    said: str,
    joining: bool,  # noqa: FBT001 - a parameter of a test
) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        if joining:
            await world.register(key, first=7)
        vault.grants[IDENTITY] = OPERATIONS - taken
        before = len(vault.calls)
        result = await refused(world, spec_with(1, key))
        assert result.message == f"the vault refuses the identity {IDENTITY}: it lacks the permission {said}"
        assert set(result.missing) == taken
        role, policy = result.commands
        assert role.startswith(
            f"az role assignment create --role 'Key Vault Crypto Service Encryption User' --assignee {CLIENT}"
        )
        assert policy == f"az keyvault set-policy --name contoso --spn {CLIENT} --key-permissions get wrapKey unwrapKey"
        assert len(vault.calls) > before


async def test_of_a_pinned_version_all_permissions_are_tried_one_by_one(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    pinned = key.at(vault.key().newest.id)
    async with world.running():
        for left in (set(), {"wrapKey"}, {"unwrapKey"}, {"wrapKey", "unwrapKey"}):
            vault.grants[IDENTITY] = frozenset(left)
            result = await refused(world, spec_with(1, pinned))
            assert result.missing == tuple(name for name in ORDER if name not in left)
            assert result.message.endswith(" and unwrapKey" if "unwrapKey" not in left and left else result.missing[-1])


ORDER = ("get", "wrapKey", "unwrapKey")


async def test_a_key_beyond_its_dates_is_not_taken_for_a_lack_of_permission(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        await world.register(key, first=7)
        vault.change(expires=world.clock.now() - timedelta(days=1))
        result = await refused(world, spec_with(1, key))
        assert result.message.startswith("the version expired at "), result
        assert not result.missing


async def test_a_fresh_grant_is_waited_for_and_holds_up_nobody_else_of_the_file(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    _, other = vault_of(world, "fabrikam")
    vault.revoke()
    news: list[tuple[float, Result | int]] = []
    async with world.running():
        for number in range(2, 5):
            vault.create(f"key{number}")
        granted = KeyIdentifier(key.host, "key4")
        wanted = [spec_with(1, key), spec_with(2, key), spec_with(3, other), spec_with(4, granted)]

        def tell(heard: Result | int) -> None:
            news.append((world.now, heard))
            if heard == 3 and world.now > 60:
                vault.grant()

        results = await apply_all(
            world.service.registrar, wanted, clock=world.clock, wait_for_grant=timedelta(minutes=2), tell=tell
        )
        assert [result.action for result in results] == [Action.CREATED] * 4
        assert [result.account for result in results] == [spec.id for spec in wanted]
        final = {heard.account: at for at, heard in news if isinstance(heard, Result)}
        assert final.pop(account_id(3)) < 1
        assert 60 < min(final.values()) <= max(final.values()) < 100
        assert [heard for _, heard in news if isinstance(heard, int)] == [3] * sum(heard == 3 for _, heard in news)
        refusals = [call for call in vault.calls if call.outcome != "ok"]
        assert len(refusals) < 25, "two keys are asked for in each of some five rounds, whoever waits for them"


async def test_an_endless_wait_ends_and_says_what_is_missing(make_world: Callable[..., World]) -> None:
    wait = RegistrationSettings(wait_for_grant=timedelta(seconds=45))
    world = make_world(settings=SETTINGS.model_copy(update={"registration": wait}))
    vault, key = vault_of(world, "contoso")
    vault.revoke()
    async with world.running():
        begun = world.now
        result = await refused(world, spec_with(1, key))
        assert result.missing == ("get",)
        assert 45 <= world.now - begun < 47
        assert vault.calls[-1].time - begun >= 45, "it looks a last time when the wait is over"


async def test_what_is_no_lack_of_a_grant_is_not_waited_for(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        begun = world.now
        vault.block()
        assert "network rules" in (await refused(world, spec_with(1, key))).message
        vault.blocked = False
        assert "no such key" in (await refused(world, spec_with(1, KeyIdentifier(key.host, "absent")))).message
        assert world.now - begun < 2


@pytest.mark.parametrize("level", ["Recoverable+Purgeable", "Purgeable", "CustomizedRecoverable+Purgeable"])
async def test_a_vault_without_purge_protection_is_refused_at_registration_and_only_warned_of_later(
    world: World, level: str
) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        await world.register(key)
        vault.key().recovery_level = level
        result = await refused(world, spec_with(2, key))
        assert "soft-delete and purge protection" in result.message
        assert result.commands == ("az keyvault update --name contoso --enable-purge-protection true",)
        await world.until(lambda: _warned(world, key), within=2 * MINUTE)
        assert await world.state(account_id(1)) is State.ACCESSIBLE
        vault.key().recovery_level = None
        assert (await apply(world, spec_with(2, key)))[0].action is Action.CREATED, "who does not tell is not refused"


async def _warned(world: World, key: KeyIdentifier) -> bool:
    return bool((await world.watch(key)).warnings)


class Registry:
    """What ARM tells, as told."""

    def __init__(self, told: VaultProperties | None) -> None:
        self.told = told
        self.asked: list[VaultHost] = []

    async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:
        assert subscription == account_id(1).subscription
        self.asked.append(target.key.host)
        return self.told


PROPERTIES: dict[str, tuple[VaultProperties | None, str]] = {
    "cannot tell": (None, ""),
    "says nothing": (VaultProperties(None, None, None), ""),
    "as it should be": (VaultProperties("westeurope", soft_delete=True, purge_protection=True), ""),
    "another region": (VaultProperties("eastus", soft_delete=True, purge_protection=True), "in the region eastus"),
    "no soft-delete": (VaultProperties(None, soft_delete=False, purge_protection=None), "soft-delete and purge"),
    "no purge protection": (VaultProperties(None, soft_delete=True, purge_protection=False), "soft-delete and purge"),
}


@pytest.mark.parametrize("case", PROPERTIES)
async def test_what_arm_tells_of_the_vault_counts_where_it_tells(world: World, case: str) -> None:
    properties, said = PROPERTIES[case]
    registry = Registry(properties)
    _, key = vault_of(world, "contoso")
    async with world.running():
        world.service.registrar._admission._registry = registry
        (result,) = await apply(world, spec_with(1, key))
        assert result.action is (Action.REFUSED if said else Action.CREATED), result
        assert said in result.message
        assert registry.asked == [key.host]
        await refused(world, spec_with(2, key, SHARED))
        assert registry.asked == [key.host], "of a key that names nobody, nobody is asked"


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


async def test_another_location_needs_no_vault(world: World) -> None:
    vault, key = vault_of(world, "contoso")
    async with world.running():
        await world.register(key)
        calls = len(vault.called("wrapKey"))
        (moved,) = await apply(world, replace(spec_of(1, key), location="northeurope"))
        assert (moved.action, len(vault.called("wrapKey"))) == (Action.UPDATED, calls)


async def test_an_account_does_not_leave_the_region_of_its_vault_afterwards_either(world: World) -> None:
    _, key = vault_of(world, "contoso")
    registry = Registry(VaultProperties("westeurope", soft_delete=True, purge_protection=True))
    async with world.running():
        world.service.registrar._admission._registry = registry
        await world.register(key)
        moved = await refused(world, replace(spec_of(1, key), location="northeurope"))
        assert moved.message == "the vault is in the region westeurope, the account in northeurope"
        registry.told = None
        (result,) = await apply(world, replace(spec_of(1, key), location="northeurope"))
        assert result.action is Action.UPDATED, "who cannot tell refuses nothing"
