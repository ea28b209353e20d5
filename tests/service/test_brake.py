"""`byokd brake` against a running daemon whose own credential breaks."""

import json

from byokd.demo.stage import Stage
from service.support import apply, byokd, entry

NAMES = ("contoso", "fabrikam", "northwind")


async def joined(stage: Stage) -> None:
    """Three customers, each with a vault of their own."""
    entries = "accounts:\n"
    for name in NAMES:
        vault = await stage.control.create_vault(f"{name}-keys", purge_protection=True)
        await stage.control.create_key(f"{name}-keys", "media", size=2048)
        await stage.control.grant(f"{name}-keys")
        entries += entry(vault["tenant"], name=name, key=f"{vault['url']}/keys/media")
    path = stage.directory / "all.yaml"
    path.write_text(entries)
    assert (await apply(stage, path)).code == 0


async def test_operators_see_what_is_held_and_judge_it(stage: Stage) -> None:
    environment, watcher = stage.environment, stage.watcher
    await joined(stage)
    assert await watcher.until(lambda: all(watcher.state(name) for name in NAMES), seconds=12) is not None
    calm = await byokd("brake", "status", environment=environment)
    assert (calm.code, calm.out) == (0, "not engaged\n")

    for name in NAMES:
        await stage.control.revoke(f"{name}-keys")

    async def holds() -> bool:
        return "denials held: 3" in (await stage.service.ask("/status"))["components"]["brake"]["message"]

    assert await watcher.until_true(holds, seconds=20) is not None
    shown = await byokd("brake", "status", "--json", environment=environment)
    found = json.loads(shown.out)
    assert (shown.code, found["engaged"], found["engagedBy"], found["held"]) == (1, True, "tally", 3)
    assert found["found"] | {"customers": 3, "suspected": 3, "reasons": "AccessDenied"} == found["found"]
    assert {one["keyIdentifier"].split("/")[2] for one in found["denials"]} == {
        f"{name}-keys.vault.azure.net" for name in NAMES
    }
    account = await byokd("accounts", "show", "contoso", environment=environment)
    assert "held by the brake AccessDenied: " in account.out
    assert [watcher.state(name)["state"] for name in NAMES] == ["Accessible"] * 3

    unasked = await byokd("brake", "confirm", environment=environment)
    assert (found["accounts"], found["vaults"], found["tenants"]) == (3, 3, 1)
    assert (
        "found:  3 of 3 vaults were suspected at once (AccessDenied), among "
        in (await byokd("brake", "status", environment=environment)).out
    )
    assert (unasked.code, unasked.err) == (2, "error: nobody is there to ask\nhint: give --yes to apply what is held\n")
    confirmed = await byokd("brake", "confirm", "--yes", environment=environment)
    assert (confirmed.code, confirmed.out) == (0, "confirmed; 3 held denials applied\n")

    def all_closed() -> bool:
        return all(watcher.state(name).get("state") == "Inaccessible" for name in NAMES)

    assert await watcher.until(all_closed, seconds=12) is not None

    by_hand = await byokd("brake", "engage", "--reason", "new credential", environment=environment)
    assert by_hand.code == 0
    assert by_hand.out.startswith("engaged by an operator since ")
    words = "mind \x1b[1m" + 60 * "x " + "and whoever is on call ends it"
    assert "took the place" not in by_hand.out
    once_more = await byokd("brake", "engage", "--reason", words, environment=environment)
    assert once_more.code == 0
    assert once_more.out.splitlines()[1:] == [
        "it was engaged by an operator already; this reason took the place of: new credential"
    ]
    told = await byokd("brake", "status", environment=environment)
    assert f"reason: {words}".replace("\x1b", "\N{REPLACEMENT CHARACTER}") in told.out.splitlines()
    assert (await byokd("brake", "engage", "--reason", " ", environment=environment)).code == 2
    released = await byokd("brake", "release", environment=environment)
    assert (released.code, released.out) == (0, "released; 0 held denials discarded\n")
    again = await byokd("brake", "release", environment=environment)
    assert (again.code, again.out) == (0, "the brake was not engaged\n")
    types = [heard.event["type"] for heard in watcher.heard if heard.topic.endswith("/service/events") and heard.event]
    brakes = [type_.removeprefix("byokd.service.brake-") for type_ in types if "brake" in type_]
    assert brakes == ["engaged", "released", "engaged", "engaged", "released"]


async def test_what_is_held_by_hand_is_told_everywhere_and_a_release_says_what_follows(stage: Stage) -> None:
    environment, watcher = stage.environment, stage.watcher
    vault = await stage.control.create_vault("late-keys", purge_protection=True)
    await stage.control.create_key("late-keys", "media", size=2048)
    await stage.control.grant("late-keys")
    path = stage.directory / "late.yaml"
    path.write_text("accounts:\n" + entry(vault["tenant"], name="late", key=f"{vault['url']}/keys/media"))
    assert (await apply(stage, path)).code == 0
    await byokd("brake", "engage", "--reason", "once more", environment=environment)
    healthy = (await stage.service.ask("/status"))["components"]["brake"]
    assert ": once more; no denial is held now" in healthy["message"]
    assert healthy["hint"].startswith("it stays engaged until an operator ends it: `byokd brake release`")
    await stage.control.revoke("late-keys")

    async def holds_one() -> bool:
        return "denials held: 1" in (await stage.service.ask("/status"))["components"]["brake"]["message"]

    assert await watcher.until_true(holds_one, seconds=20) is not None
    checked = await byokd("check", "late", environment=environment)
    assert "does not count yet: byokd explain late says from when on it does" in checked.out
    settings = environment | {"BYOKD_SETTINGS": str(stage.directory / "byokd.toml")}
    examined = (await byokd("doctor", environment=settings)).out
    assert "\nwarn  brake            engaged by an operator since " in examined
    assert "\nwarn  accounts         1 with a denial held by the brake: 1 AccessDenied; what needs" in examined
    assert "late-keys.vault.azure.net: refused a key at the last look: AccessDenied" in examined
    common = "hint: byokd accounts list shows which, byokd explain ACCOUNT why, until when, and what mends it"
    assert examined.count(common) == 1, "once, below the last that it is for"
    let_go = await byokd("brake", "release", environment=environment)
    first, second = let_go.out.splitlines()
    assert first == "released; 1 held denial discarded"
    assert second.startswith("their vaults are looked at now; one that still denies is suspected anew")
    # As it says: what is still denied counts once it is confirmed.
    assert await watcher.until(lambda: watcher.state("late").get("state") == "Inaccessible", seconds=20) is not None
