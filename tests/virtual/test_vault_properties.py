"""What a vault has to be like for a key in it to be taken: protected from purging, and of the account's region."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from byokd.domain.identifiers import KeyIdentifier, VaultHost
from byokd.domain.properties import VaultProperties
from byokd.domain.vocabulary import State
from byokd.ports import KeyTarget
from byokd.runtime.registrar import Action
from virtual.registering import SETTINGS, SHARED, apply, refused, spec_with, vault_of
from virtual.world import MINUTE, World, account_id, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(settings=SETTINGS)


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
