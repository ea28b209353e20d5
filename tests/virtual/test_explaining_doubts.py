"""`byokd explain` of accounts in doubt: what it says works does, what it says is refused is, and until then."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from byokd.cli import explain as command
from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.runtime.brake_words import sentence
from byokd.runtime.unusable import InaccessibleError, RecordDamagedError, UnavailableError
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
from virtual.test_damages import tear
from virtual.test_explaining import document, until_in, world_time
from virtual.using import CONTENT, REF, protect, reveal
from virtual.world import HOUR, MINUTE, START, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


def text_of(found: dict[str, Any]) -> str:
    return "\n".join(command._lines(found))


async def what_needs_no_key_works(world: World, account: AccountId) -> None:
    assert (await world.account(account)).id == account
    assert [info.ref for info in await world.service.values.list(account)] == [REF]
    await world.service.values.remove(account, REF)


async def test_a_suspected_account_says_what_the_gate_does(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.block()
        await until_in(world, account, "suspected")
        found = await document(world, account)
        suspicion = found["versions"][0]["suspicion"]
        assert found["why"] == f"{suspicion['message']}, since {suspicion['since']}"
        assert "can be unwrapped" not in text_of(found)
        assert "works on" not in text_of(found)
        assert "so far Usable since" in text_of(found)
        lines = text_of(found).splitlines()
        (first,) = [number for number, line in enumerate(lines) if line.startswith("  works ")]
        assert lines[first + 1].strip() == "listing and removing its protected values"
        assert lines[first + 2].startswith("  refused     protecting and revealing values")
        assert found["works"] == [
            "showing, listing and deleting the account",
            "listing and removing its protected values",
        ]
        assert found["refused"][0].startswith(
            "protecting and revealing values, giving the account another key: nothing is held in memory, so each asks"
        )
        with pytest.raises(InaccessibleError):
            await protect(world, account)
        with pytest.raises(InaccessibleError):
            await reveal(world, account)
        # "as long as the vault refuses": it is asked at that moment, whatever is stored.
        vault.heal()
        assert await reveal(world, account) == CONTENT
        vault.block()
        await what_needs_no_key_works(world, account)
        assert (
            f"a refusal from {suspicion['countsFrom']} on confirms it: the account becomes Inaccessible"
            in found["until"]
        )
        assert f"next look {found['nextCheck']}" in found["until"]
        assert found["versions"][0]["wrapsNewKeys"] is False
        assert found["versions"][0]["current"] is True
        assert "current, but wraps no new keys now" in text_of(found)
        await world.until_told(account, "byokd.account.inaccessible", within=400)
        closed = await document(world, account)
    assert world_time(closed["account"]["since"]) >= world_time(suspicion["countsFrom"])
    assert closed["refused"] == [
        "protecting and revealing values, changing the account, moving its key to a newer version"
    ]


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


async def test_a_key_that_was_made_anew_is_not_to_stay_enabled_and_not_to_be_recovered(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        gone = vault.key().newest.id
        del vault.keys["media-key"]
        vault.create()
        await world.until_told(account, "byokd.account.inaccessible", within=90)
        found = await document(world, account)
    (version,) = found["versions"]
    (remedy,) = found["remedies"]
    assert (found["account"]["reason"], found["keep"]) == ("KeyVersionNotFound", [])
    assert found["newestKeyIdentifier"] != found["account"]["encryption"]["currentKeyIdentifier"]
    assert (version["wrapsAccount"], version["wrapsNewKeys"]) == (True, False)
    assert f"version {gone} of the key media-key in the vault contoso is not there any more" in remedy["text"]
    assert "There is nothing to enable or to recover" in remedy["text"]
    assert "must stay enabled" not in text_of(found)
    assert "wraps new keys" not in text_of(found)


async def test_an_unverified_account_says_until_when_what_is_in_memory_is_used(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settings=with_checks(fail_closed_after=timedelta(hours=1)))
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        vault.strike(Reason.TIMED_OUT)
        await until_in(world, account, "unverified")
        found = await document(world, account)
        since = found["versions"][0]["unverified"]["since"]
        assert found["why"] == f"the key could not be checked since {since}: TimedOut"
        assert "with an account key that was unwrapped less than 300 s ago" in found["works"][-1]
        await reveal(world, account)
        await until(lambda: is_refused(world, account), seconds=301)
        closes = world_time(found["until"].split(" at ")[1].split(" ")[0])
        assert closes - world_time(since) == HOUR
        await world.until_told(account, "byokd.account.inaccessible", within=HOUR)
        assert 0 <= world_time((await world.account(account)).since.isoformat()) - closes <= 2 * MINUTE
        later = await document(world, account)
    assert f"the vault gives no answer now (TimedOut): not verified since {since}" in later["until"]


async def test_a_damaged_account_says_that_it_alone_is_refused(world: World) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.service.values.reveal(account, REF)
        await world.restart()
        await tear(world, account)
        with pytest.raises(RecordDamagedError):
            await reveal(world, account)
        found = await document(world, account)
        assert found["condition"] == "damaged"
        assert found["why"].startswith(found["account"]["damage"])
        assert found["refused"][0].startswith("protecting and revealing values")
        await what_needs_no_key_works(world, account)


async def test_who_is_inaccessible_and_damaged_is_not_promised_that_all_works_again(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        await tear(world, account)
        with pytest.raises(RecordDamagedError):
            await reveal(world, account)
        vault.strike(RefusalKind.KEY_DISABLED)
        await until_in(world, account, "inaccessible")
        found = await document(world, account)
        assert "but damaged since" in found["until"]
        assert "works again by itself" not in found["until"]


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


async def test_a_denial_after_a_silence_is_not_said_to_be_one(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Reason.THROTTLED)
        await world.until_told(account, "byokd.account.unverified", within=20 * MINUTE)
        vault.faults.clear()
        vault.strike(RefusalKind.NETWORK_BLOCKED)
        await until_in(world, account, "suspected")
        found = await document(world, account)
        assert "the vault gives no answer" not in str(found)
        assert "Throttled" not in {one["reason"] for one in found["remedies"]}


async def test_a_look_that_had_no_connection_is_not_said_to_have_had_one(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Reason.CONNECTION_FAILED)
        await until_in(world, account, "unverified")
        found = await document(world, account)
    (seen,) = [line for line in text_of(found).splitlines() if "ConnectionFailed" in line and " seen " in line]
    assert "connection:" not in seen
    assert found["versions"][0]["looks"][-1]["connection"] == "pooled"


async def test_a_key_that_comes_and_goes_says_how_long_it_has_to_stay(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        found: dict[str, Any] = {}
        for _ in range(12):
            vault.disable()
            await until_in(world, account, "inaccessible")
            vault.enable()
            found = await until_seen_usable(world, account)
            if "it is seen so since" in str(found["until"]):
                break
        await world.clock.sleep(1)
        later = await document(world, account)
        steady, still = (one["until"].rpartition("until ")[2].removesuffix(" if it lasts") for one in (found, later))
        assert steady == still, "it does not move while it lasts"
        await until_in(world, account, "healthy")
        assert 0 <= world_time((await world.account(account)).since.isoformat()) - world_time(steady) <= MINUTE


async def until_seen_usable(world: World, account: AccountId) -> dict[str, Any]:
    """Wait until a disabled key that was enabled again is seen so, whether that counts or not."""
    for _ in range(400):
        found = await document(world, account)
        if found["condition"] != "inaccessible" or "it is seen so since" in found["until"]:
            return found
        await world.clock.sleep(1)
    raise AssertionError("never")


@pytest.mark.parametrize(
    ("code", "verb"),
    [("ForbiddenByRbac", "az role assignment create"), ("ForbiddenByPolicy", "az keyvault set-policy")],
)
async def test_the_grant_that_the_refusal_tells_is_the_one_that_is_named(world: World, code: str, verb: str) -> None:
    vault, key = world.one_vault()
    vault.inner_code = code
    async with world.running():
        (account,) = await world.register(key)
        vault.revoke("get")
        for _ in range(100):
            if warned := (await document(world, account))["remedies"]:
                break
            await world.clock.sleep(1)
        vault.revoke()
        await until_in(world, account, "inaccessible")
        denied = (await document(world, account))["remedies"][0]
    assert (warned[0]["reason"], denied["reason"]) == ("NewVersionsUnseen", "AccessDenied")
    for remedy in (warned[0], denied):
        (command,) = remedy["commands"]
        assert command.startswith(verb)


async def condition(world: World, customer: Customer) -> str:
    return str((await document(world, customer.accounts[0]))["condition"])


async def is_well(world: World, account: AccountId) -> bool:
    return str((await document(world, account))["condition"]) == "healthy"


async def is_refused(world: World, account: AccountId) -> bool:
    try:
        await reveal(world, account)
    except UnavailableError:
        return True
    return False


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


async def test_another_reason_of_a_key_that_changes_all_the_time_counts_later_and_says_so(world: World) -> None:
    vault, key = world.one_vault()
    changes: list[tuple[float, float]] = []
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await until_in(world, account, "inaccessible")
        for turn in range(10):
            vault.grant() if turn % 2 else vault.revoke()
            found = await until_counts(world, account)
            before = found["account"]["reason"]
            counts = world_time(found["versions"][0]["suspicion"]["countsFrom"])
            for _ in range(700):
                if (now := await world.account(account)).reason != before:
                    changes.append((counts, now.since.timestamp()))
                    break
                await world.clock.sleep(1)
    assert len(changes) == 10
    # A wait is over a thousandth early: clocks are slewed by half of that.
    assert all(since >= counts - 0.3 for counts, since in changes)
    waits = [since - counts for counts, since in changes]
    assert max(waits) <= 15, "a look, and a second to see it"


async def until_counts(world: World, account: AccountId) -> dict[str, Any]:
    """Wait until another reason is suspected."""
    for _ in range(700):
        found = await document(world, account)
        if found["versions"][0]["suspicion"] is not None:
            return found
        await world.clock.sleep(0.5)
    raise AssertionError("never")


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"operations": frozenset({"unwrapKey"})}, "WrapNotPermitted"),
        ({"expires": START}, "KeyExpired"),
        ({"not_before": START + timedelta(days=1)}, "KeyNotYetValid"),
    ],
)
async def test_a_version_that_cannot_wrap_is_not_said_to_wrap_new_keys(
    world: World,
    change: dict[str, object],
    warning: str,
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        before = await document(world, account)
        vault.change(**change)
        await asyncio.sleep(2 * MINUTE)
        found = await document(world, account)
        assert (before["versions"][0]["wrapsNewKeys"], found["versions"][0]["wrapsNewKeys"]) == (True, False)
        assert [one["kind"] for one in found["warnings"]] == [warning]
        assert found["condition"] == "healthy"
    assert "(wraps this account, current, but wraps no new keys now)" in text_of(found)
