"""`byokd explain` of accounts in doubt: what it says works does, what it says is refused is, and until then."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.runtime.unusable import InaccessibleError, RecordDamagedError
from virtual.explained import is_refused, text_of, what_needs_no_key_works
from virtual.fleets import until
from virtual.test_damages import tear
from virtual.test_explaining import document, until_in, world_time
from virtual.using import CONTENT, REF, protect, reveal
from virtual.world import HOUR, MINUTE, START, World, with_checks

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


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
