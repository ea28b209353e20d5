"""`byokd accounts list` and `show`: what the state alone does not tell is seen at a glance."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from byokd.cli import accounts as command
from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import Reason
from byokd.http.account_routes import account_routes
from byokd.http.managed import Managed
from virtual.test_damages import tear
from virtual.test_explaining import until_in
from virtual.using import protect, reveal
from virtual.world import World

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)


async def listed(world: World, account: AccountId | None = None) -> Any:  # noqa: ANN401 - JSON
    """What the management API answers."""
    managed = SimpleNamespace(find=world.account, store=world.sql, settings=world.settings)
    several, one, *_ = account_routes(cast("Managed", managed)).routes
    endpoint = cast("Any", several if account is None else one).endpoint
    return json.loads(json.dumps(await endpoint(*([] if account is None else [account]))))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run a command on a daemon that answers with this document; give the lines."""

    def run(verb: str, found: object) -> list[str]:
        monkeypatch.setattr(command, "call", lambda *_, **__: (200, found))
        arguments = [verb] if verb == "list" else [verb, "contoso"]
        ran = CliRunner().invoke(command.accounts, arguments)
        assert ran.exit_code == 0
        return ran.output.splitlines()

    return run


async def test_a_healthy_account_has_no_marks(world: World, printed: Callable[..., list[str]]) -> None:
    _, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        (found,), shown = await listed(world), await listed(world, account)
    assert (found["suspicion"], found["unverified"]) == (shown["suspicion"], shown["unverified"]) == (None, None)
    assert "Accessible  -" in printed("list", [found])[1]
    assert not [line for line in printed("show", shown) if "explain" in line]
    assert "message           the account key can be unwrapped" in printed("show", shown)


async def test_a_suspected_and_then_a_held_account_are_marked(world: World, printed: Callable[..., list[str]]) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await world.service.brakeman.engage("by hand")
        vault.revoke()
        await until_in(world, account, "suspected")
        (suspected,) = await listed(world)
        assert suspected["state"] == "Accessible"
        assert (suspected["suspicion"]["reason"], suspected["suspicion"]["heldSince"]) == ("AccessDenied", None)
        assert "Accessible (suspected: AccessDenied)" in printed("list", [suspected])[1]
        early = await listed(world, account)
        assert early["heldDenial"] is None
        await until_in(world, account, "held")
        (found,), shown = await listed(world), await listed(world, account)
    assert found["suspicion"] == shown["suspicion"]
    assert found["suspicion"]["heldUntil"] > found["suspicion"]["heldSince"] > found["suspicion"]["since"]
    assert "Accessible (held: AccessDenied)" in printed("list", [found])[1]
    assert [line for line in printed("show", early) if line.startswith("suspected         AccessDenied: ")]
    assert not [line for line in printed("show", shown) if "the account key can be unwrapped" in line]
    (held,) = [line for line in printed("show", shown) if line.startswith("held by the brake AccessDenied: ")]
    assert held.endswith(f"until {shown['suspicion']['heldUntil']} at most")
    assert printed("show", shown)[-1].startswith(f"byokd explain {account.name} says what works")


async def test_an_unverified_account_is_marked_before_that_is_published(
    world: World, printed: Callable[..., list[str]]
) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.strike(Reason.THROTTLED)
        await until_in(world, account, "unverified")
        (found,), shown = await listed(world), await listed(world, account)
    assert found["unverifiedSince"] is None, "as the contract has it, once it was told"
    assert (found["unverified"]["reason"], found["unverified"]["published"]) == ("Throttled", False)
    assert shown["unverified"] == found["unverified"]
    assert "Accessible (unverified: Throttled)" in printed("list", [found])[1]
    since = found["unverified"]["since"]
    assert f"unverified        Throttled, since {since}" in printed("show", shown)


async def test_everything_that_is_amiss_is_marked(world: World, printed: Callable[..., list[str]]) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await protect(world, account)
        await world.restart()
        await tear(world, account)
        with pytest.raises(Exception, match="does not open"):
            await reveal(world, account)
        vault.disable()
        await until_in(world, account, "inaccessible")
        vault.strike(Reason.TIMED_OUT)
        for _ in range(40):
            (found,) = await listed(world)
            if found["unverified"]:
                break
            await world.clock.sleep(1)
    assert "Inaccessible (unverified: TimedOut, damaged)  KeyDisabled" in printed("list", [found])[1]
