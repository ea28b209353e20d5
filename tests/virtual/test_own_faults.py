"""Our own trouble, in a whole service: said in health, and no account loses access by it."""

import asyncio
from datetime import timedelta

import pytest

from byokd.domain.vocabulary import Reason, State
from byokd.runtime.health import Component
from virtual.world import MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

TROUBLES = [
    (Reason.TOKEN_UNAVAILABLE, Component.IDENTITIES),
    (Reason.TLS_FAILED, Component.VAULTS),
]


@pytest.mark.parametrize(("reason", "component"), TROUBLES)
async def test_what_befalls_every_vault_is_said_and_denies_nobody(
    world: World, reason: Reason, component: Component
) -> None:
    pairs = [world.one_vault(name) for name in ("contoso", "fabrikam")]
    async with world.running():
        accounts = [(await world.register(key, first=number))[0] for number, (_, key) in enumerate(pairs, start=1)]
        await asyncio.sleep(2 * MINUTE)
        assert world.service.health.is_well(component)
        for vault, _ in pairs:
            vault.strike(reason)
        await asyncio.sleep(1.5 * MINUTE)
        condition = world.service.health.conditions[component]
        assert not condition.well
        assert condition.hint
        await world.reload()
        await asyncio.sleep(MINUTE)
        assert not world.service.health.is_well(component)
        assert [await world.state(account) for account in accounts] == [State.ACCESSIBLE] * 2
        pairs[0][0].faults.clear()
        await asyncio.sleep(1.5 * MINUTE)
        assert world.service.health.is_well(component)
        said = [line["event"] for line in world.logs if line.get("component") == component]
        assert said == ["component-in-trouble", "component-recovered"]


async def test_a_clock_that_is_off_is_said_after_a_reload_too(world: World) -> None:
    pairs = [world.one_vault(name) for name in ("contoso", "fabrikam")]
    async with world.running():
        for number, (_, key) in enumerate(pairs, start=1):
            await world.register(key, first=number)
        await world.reload()
        for vault, _ in pairs:
            world.service.outside.vault_times.tell(vault.host, timedelta(minutes=6))
        await asyncio.sleep(20)
        assert world.service.health.conditions[Component.CLOCK].message.endswith("360 s ahead of the vaults'")
