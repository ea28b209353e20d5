"""`byokd explain` of accounts that the brake concerns, and of those that it does not."""

from collections.abc import Callable

import pytest

from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import RefusalKind
from byokd.runtime.brake_words import sentence
from byokd.runtime.unusable import InaccessibleError
from virtual.explained import text_of, what_needs_no_key_works
from virtual.fleets import (
    Customer,
    break_credential,
    fleet,
    held,
    is_engaged,
    mend_credential,
    shared,
    until,
    with_brake,
)
from virtual.test_explaining import document, until_in, world_time
from virtual.using import protect, reveal
from virtual.world import HOUR, MINUTE, World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


async def test_a_brake_engaged_by_hand_is_told_with_its_reason_and_what_ends_it(world: World) -> None:
    vault, key = world.one_vault()
    words = "new credential for the platform, change 4711: whoever is on call lets it go again before noon"
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.service.brakeman.engage(words)
        assert (await document(world, account))["brake"] is None, "it does not concern this account yet"
        vault.revoke()
        await until_in(world, account, "suspected")
        early = await document(world, account)
        assert "confirms it: the brake holds it back, and the account stays as it is" in early["until"]
        await until_in(world, account, "held")
        found = await document(world, account)
        suspicion = found["versions"][0]["suspicion"]
        assert "many customers" not in text_of(found)
        assert "The brake holds it back, because an operator engaged it" in found["means"]
        brake = found["brake"]
        assert (brake["engagedBy"], brake["message"], brake["holds"]) == ("operator", words, True)
        assert brake["why"] == f"engaged by an operator since {brake['since']}: {words}"
        until_when = f"a refusal from {suspicion['heldUntil']} on counts: the account becomes Inaccessible"
        assert until_when in found["until"]
        for order in ("release", "confirm"):
            assert f"`byokd brake {order}`" in found["until"]
        first, second = found["remedies"]
        assert (first["about"], first["who"], first["commands"]) == (
            "brake",
            "operator",
            ["byokd brake status", "byokd doctor"],
        )
        assert words in first["text"]
        assert "it stays engaged until an operator ends it" in first["text"]
        assert second["about"] == "suspicion"
        with pytest.raises(InaccessibleError):
            await reveal(world, account)
        await what_needs_no_key_works(world, account)
        await world.until_told(account, "byokd.account.inaccessible", within=2 * HOUR)
        assert world_time((await world.account(account)).since.isoformat()) >= world_time(suspicion["heldUntil"])
    assert f"brake       {brake['why']}" in text_of(found)


async def test_a_brake_that_the_tally_engaged_is_told_with_what_was_found(make_world: Callable[..., World]) -> None:
    world = make_world(settings=shared())
    async with world.running():
        customers = await fleet(world, 4)
        break_credential(customers)

        async def all_held() -> bool:
            return await held(world) == len(customers)

        await until(all_held, seconds=2 * MINUTE)
        account = customers[0].accounts[0]
        found = await document(world, account)
        assert found["condition"] == "held"
        assert "so many customers are refused that it may be our own fault" in found["means"]
        assert "vaults were suspected at once (AccessDenied), among all customers" in found["brake"]["why"]
        assert "it lets go by itself when nothing that it met is refused any more" in found["remedies"][0]["text"]
        await world.service.brakeman.engage("on call took over")
        taken = await document(world, account)
        assert ", first by itself, then by an operator: on call took over (" in taken["brake"]["why"]
        assert "so many customers are refused that it may be our own fault" in taken["means"]
        mend_credential(customers)
        await until(lambda: is_well(world, account), seconds=6 * MINUTE)
        assert (await document(world, account))["brake"] is None


async def test_a_brake_that_only_observes_is_told_and_holds_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(settings=with_brake(mode="observe"))
    async with world.running():
        customers = await fleet(world, 4)
        break_credential(customers)

        async def all_closed() -> bool:
            return all([await condition(world, one) == "inaccessible" for one in customers])

        await until(all_closed, seconds=3 * MINUTE)
        assert await is_engaged(world)
        found = await document(world, customers[0].accounts[0])
    assert (found["brake"]["mode"], found["brake"]["holds"]) == ("observe", False)
    assert found["remedies"][0]["about"] == "brake"
    assert "(it only observes)" in text_of(found)
    assert "brake release" not in found["until"]
    assert "discards what it holds" not in found["remedies"][0]["text"]


async def test_a_brake_is_not_told_to_whom_it_does_not_hold(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(RefusalKind.ACCESS_DENIED)
        await until_in(world, account, "inaccessible")
        await world.service.brakeman.engage("a drill")
        found = await document(world, account)
        assert found["brake"] is None
        assert "brake" not in {one["about"] for one in found["remedies"]}


async def condition(world: World, customer: Customer) -> str:
    return str((await document(world, customer.accounts[0]))["condition"])


async def is_well(world: World, account: AccountId) -> bool:
    return str((await document(world, account))["condition"]) == "healthy"


async def test_what_the_brake_holds_is_counted_in_versions_accounts_and_tenants(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await world.register(world.one_vault("fabrikam")[1], first=2)
        vault.create()
        await world.until_told(account, "byokd.accountkey.rewrapped", within=2 * MINUTE)
        await world.service.brakeman.engage("work on our network")
        vault.revoke()

        async def both_held() -> bool:
            return await held(world) == 2

        await until(both_held, seconds=2 * MINUTE)
        report = await world.sql.brake_report(limit=9)
        assert (report.held, report.accounts, report.vaults, report.tenants) == (2, 1, 1, 1)
        said = sentence(report, world.settings.brake)
    assert "denials held: 2 (key versions in 1 vault of 1 tenant, with 1 account), the first until " in said


async def test_a_brake_does_not_concern_whom_it_found_denied_long_before(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.revoke()
        await until_in(world, account, "inaccessible")
        await world.clock.sleep(10 * MINUTE)
        await world.service.brakeman.engage("work on our network")
        found = await document(world, account)
    assert found["brake"] is None
    assert [remedy["about"] for remedy in found["remedies"]] == ["denial"]
