"""What is missing of a grant is named, and a fresh one is waited for."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.domain.identifiers import KeyIdentifier
from byokd.runtime.applying import apply_all
from byokd.runtime.registrar import Action, Result
from byokd.settings import RegistrationSettings
from virtual.registering import CLIENT, SETTINGS, refused, spec_with, vault_of
from virtual.vaults import IDENTITY, OPERATIONS, Operation
from virtual.world import World, account_id

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=SETTINGS)


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
