"""`byokd explain`: what it says of an account in each condition, from the route to the text on the terminal."""

import asyncio
import itertools
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from byokd.cli import explain as command
from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.http.explain_route import explain_route
from byokd.http.managed import Managed
from virtual.vaults import IDENTITY, Mishap
from virtual.world import MINUTE, World, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

RETIRED, REWRAPPED = "byokd.key.version-retired", "byokd.accountkey.rewrapped"


async def document(world: World, account: AccountId) -> dict[str, Any]:
    """What the management API answers."""
    managed = SimpleNamespace(find=world.account, explainer=world.service.explainer, settings=world.settings)
    (route,) = explain_route(cast("Managed", managed)).routes
    found = await cast("Any", route).endpoint(account)
    return cast("dict[str, Any]", json.loads(json.dumps(found)))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on a daemon that answers with this document."""

    def run(found: dict[str, Any], *options: str) -> Result:
        monkeypatch.setattr(command, "call", lambda *_, **__: (200, found))
        return CliRunner().invoke(command.explain, ["contoso", *options])

    return run


async def test_a_healthy_account(world: World, printed: Callable[..., Result]) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        early = await document(world, account)
        assert early["versions"][0]["looks"] == []
        await asyncio.sleep(200)
        found = await document(world, account)
        (version,) = found["versions"]
        assert (found["ok"], found["condition"], found["remedies"], found["keep"]) == (True, "healthy", [], [])
        assert [look["outcome"] for look in version["looks"]] == ["Usable"] * len(version["looks"])
        assert 2 <= len(version["looks"]) <= 4
        assert [answer["operation"] for answer in version["looks"][-1]["answers"]] == ["unwrapKey", "get"]
        assert found["lastCheck"] == version["looks"][-1]["at"]
        assert 50 < world_time(found["nextCheck"]) - world_time(found["lastCheck"]) < 70
        assert found["history"][-1]["type"] == "byokd.account.created"
    assert printed(early).exit_code == 0
    assert "not looked at since the start" in printed(early).output
    assert "unwrapKey  200" in printed(found).output
    assert json.loads(printed(found, "--json").output) == found


async def test_a_suspected_denial_says_from_when_on_it_counts(world: World, printed: Callable[..., Result]) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.block()
        await until_in(world, account, "suspected")
        found = await document(world, account)
        (version,) = found["versions"]
        assert (found["ok"], found["account"]["state"]) == (False, "Accessible")
        assert version["suspicion"]["reason"] == "NetworkBlocked"
        since, counts = (world_time(version["suspicion"][name]) for name in ("since", "countsFrom"))
        assert counts - since == 300
        assert version["looks"][-1]["answers"][0]["status"] == 403
        assert found["remedies"][0]["commands"][0].startswith("az keyvault network-rule add --name contoso ")
        await world.until_told(account, "byokd.account.inaccessible", within=400)
        later = (await document(world, account))["versions"][0]
        assert later["looks"][-1]["connection"] == "new"
    ran = printed(found)
    assert ran.exit_code == 1
    assert f"counts when it is seen again from {version['suspicion']['countsFrom']} on" in ran.output


async def test_an_old_version_disabled_too_early_is_named_with_the_event_until_which_it_is_needed(
    world: World, printed: Callable[..., Result]
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        old = vault.key().newest.id
        vault.create()
        new = vault.key().newest.id
        vault.disable(version=0)
        await world.until_told(account, "byokd.account.inaccessible", within=90)
        found = await document(world, account)
        (remedy,) = found["remedies"]
        assert remedy["commands"] == [
            f"az keyvault key set-attributes --vault-name contoso --name media-key --version {old} --enabled true"
        ]
        (keep,) = found["keep"]
        assert keep == {
            "keyIdentifier": str(key.at(old)),
            "newerKeyIdentifier": str(key.at(new)),
            "wrapsAccount": True,
            "until": {"type": RETIRED, "topic": f"byokd/v1/{key.topic}/events"},
            "accountMoved": {"type": REWRAPPED, "topic": f"byokd/v1/{account.topic}/events"},
        }
        assert found["history"][-1]["type"] == "byokd.account.inaccessible"
        # What was said is true: enabled, the version is kept until that event, and not a moment longer.
        vault.enable(version=0)
        await world.until_told(account, REWRAPPED, within=400)
        moved = await document(world, account)
        assert (moved["ok"], moved["remedies"]) == (True, [])
        (still,) = moved["keep"]
        assert (still["keyIdentifier"], still["wrapsAccount"]) == (str(key.at(old)), False)

        async def is_retired() -> bool:
            return bool(world.told_of_key(key, RETIRED))

        await world.until(is_retired, within=1200)
        assert (await document(world, account))["keep"] == []
    text = printed(found).output
    assert f"version {old} must stay enabled for a while, although there is the newer {new}" in text
    assert f"this account has moved when {REWRAPPED} comes on byokd/v1/{account.topic}/events" in text
    assert f"it may be disabled when {RETIRED} comes for it on byokd/v1/{key.topic}/events" in text


async def test_a_rewrap_that_fails_says_why_and_when_it_is_tried_again(
    world: World, printed: Callable[..., Result]
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.latency = 1.0
        vault.create()
        await world.until(lambda: has_two_versions(world, account), within=80)
        waiting = await document(world, account)
        assert (waiting["rewrap"]["waitsFor"], waiting["rewrap"]["attempts"]) == ("its turn", 0)
        vault.strike(Reason.VAULT_ERROR, "wrapKey")
        failed = await world.until_told(account, "byokd.accountkey.rewrap-failed", within=20)
        found = await document(world, account)
        assert found["rewrap"]["waitsFor"] == f"the next try after a failure: {failed['data']['failure']}"
        assert found["rewrap"]["attempts"] == 1
        assert 0 < world_time(found["rewrap"]["nextTry"]) - world_time(failed["time"]) <= 10
        vault.disable(version=0)
        await world.until_told(account, "byokd.account.inaccessible", within=90)
        stuck = await document(world, account)
        assert stuck["rewrap"]["waitsFor"].endswith("has to be usable: denial, KeyDisabled")
    text = printed(found).output
    assert "the account key is still to be moved to the newer version" in text
    assert f"failed 1 time; next try {found['rewrap']['nextTry']}" in text


async def test_one_look_is_told_with_one_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, key = world.one_vault()
    now, looked = world.clock.now, itertools.count()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        monkeypatch.setattr(world.clock, "now", lambda: now() + timedelta(milliseconds=next(looked)))
        await world.until_told(account, "byokd.account.inaccessible", within=90)
        found = await document(world, account)
    (version,) = found["versions"]
    seen = [look["at"] for look in version["looks"]]
    assert {answer["at"] for answer in version["verdict"]["evidence"]} == set(seen[-2:])
    assert version["verdict"]["observedAt"] == found["lastCheck"] == seen[-1]


async def test_after_a_restart_the_stored_evidence_stands_in(world: World, printed: Callable[..., Result]) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.disable()
        await world.until_told(account, "byokd.account.inaccessible", within=90)
        vault.latency = 4.0
        await world.restart()
        found = await document(world, account)
        (version,) = found["versions"]
        assert version["looks"] == []
        assert version["verdict"]["evidence"][0]["status"] == 403
        assert found["remedies"][0]["reason"] == "KeyDisabled"
        assert found["lastCheck"] is None, "later looks than the one that the verdict rests on are not stored"
    text = printed(found).output
    assert "  last check  not since the start\n" in text
    assert "not looked at since the start" in text
    assert f"the verdict rests on what was seen {version['verdict']['observedAt']}:\n    unwrapKey  403" in text


async def test_a_vault_that_hangs_is_not_waited_for(world: World, printed: Callable[..., Result]) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Mishap.HANG)
        await until_in(world, account, "unverified")
        begun = world.now
        found = await document(world, account)
        assert world.now == begun
        assert (found["ok"], found["account"]["state"]) == (True, "Accessible")
        assert found["versions"][0]["unverified"]["reason"] == "TimedOut"
        assert found["versions"][0]["unverified"]["published"] is False
        assert found["remedies"][0]["commands"] == ["byokd doctor"]
    assert "    unwrapKey  no answer" in printed(found).output, "called as where it is answered"


async def test_what_a_verdict_rests_on_is_called_as_in_the_looks(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(MINUTE)
        vault.rotate()
        await world.until_told(account, REWRAPPED, within=70)
        vault.disable(version=0)

        async def is_denied() -> bool:
            return (await world.watch(key)).versions[0].verdict.reason == Reason.KEY_DISABLED

        await world.until(is_denied, within=90)
        found = await document(world, account)
    old = next(version for version in found["versions"] if not version["current"])
    called = [answer["operation"] for answer in old["looks"][-1]["answers"]]
    assert called == ["unwrapKey", "get", "get newest"]
    assert [answer["operation"] for answer in old["verdict"]["evidence"]] == 2 * called


async def test_trouble_with_a_token_is_named_by_what_the_identity_met(
    world: World, printed: Callable[..., Result]
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Reason.TOKEN_UNAVAILABLE)
        await until_in(world, account, "unverified")
        found = await document(world, account)
    (remedy,) = found["remedies"]
    assert (remedy["reason"], remedy["commands"]) == ("TokenUnavailable", ["byokd doctor"])
    words = f"the identity {IDENTITY} gets no token (IdentityUnknown): add the identity to the settings"
    assert words in " ".join(printed(found).output.split())


async def test_an_account_under_the_system_key_says_so(world: World, printed: Callable[..., Result]) -> None:
    async with world.running():
        spec = spec_of(1, None)
        await world.service.registrar.apply(spec)
        found = await document(world, spec.id)
        assert (found["condition"], found["ok"], found["versions"], found["nextCheck"]) == (
            "system-key",
            True,
            [],
            None,
        )
    assert "there is no customer key to be checked" in printed(found).output


@pytest.mark.parametrize("kind", [RefusalKind.ACCESS_DENIED, RefusalKind.NETWORK_BLOCKED])
async def test_nothing_secret_is_said(world: World, kind: RefusalKind) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(kind, "unwrapKey")
        await until_in(world, account, "suspected")
        text = json.dumps(await document(world, account))
        wrapped = await world.sql.wrapped_key(account)
        assert wrapped is not None
        watch = await world.watch(key)
        for secret in (wrapped.sealed.data, watch.current_version.probe.wrapped, watch.current_version.probe.digest):
            assert secret.hex() not in text
            assert repr(secret)[2:20] not in text


async def until_in(world: World, account: AccountId, condition: str) -> None:
    """Wait, a second at a time."""
    for _ in range(100):
        if (await document(world, account))["condition"] == condition:
            return
        await asyncio.sleep(1)
    raise AssertionError(f"never {condition}")


async def has_two_versions(world: World, account: AccountId) -> bool:
    return len((await document(world, account))["versions"]) == 2


def world_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
