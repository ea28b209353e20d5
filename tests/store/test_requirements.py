"""Whose turn it is to be asked about at ARM, kept over restarts."""

from dataclasses import replace
from datetime import timedelta

from byokd.domain.decide import Decision, KeyEvent
from byokd.domain.identifiers import KeyIdentifier, VaultHost
from byokd.domain.verdict import WatchWarning
from byokd.domain.vocabulary import EventType, WarningKind
from byokd.ports.requirements import Turn
from store.builders import KEY, Stage, account_id, at, placement, spec, target

LATER = KeyIdentifier(VaultHost("later.vault.azure.net"), "media")


async def test_the_vault_that_waits_the_longest_comes_first_and_then_nobody(stage: Stage) -> None:
    assert await stage.store.next_to_ask(before=at(0)) == Turn(0, None)
    await stage.create(1)
    await stage.create(2, key=LATER)
    assert await stage.store.next_to_ask(before=at(0)) == Turn(2, KEY.host)
    await stage.store.record_asked(KEY.host, now=at(1))
    assert await stage.store.next_to_ask(before=at(0)) == Turn(2, LATER.host), "never is longer than any time"
    await stage.store.record_asked(LATER.host, now=at(2))
    assert await stage.store.next_to_ask(before=at(1)) == Turn(2, None)
    assert await stage.store.next_to_ask(before=at(1) + timedelta(seconds=1)) == Turn(2, KEY.host)
    await stage.store.record_asked(KEY.host, now=at(3))
    assert await stage.store.next_to_ask(before=at(9)) == Turn(2, LATER.host)


async def test_a_vault_that_nobody_uses_any_more_is_not_asked_about(stage: Stage) -> None:
    await stage.create()
    account = await stage.account()
    await stage.store.update_account(account, spec(key=None), placement(key=None), now=at(1))
    assert await stage.store.find_watch(target()) is not None, "it lingers"
    assert (await stage.store.next_to_ask(before=at(9))).host is None
    assert await stage.store.occupants(KEY.host) == []
    await stage.store.record_asked(VaultHost("gone.vault.azure.net"), now=at(1))


async def test_occupants_are_watches_with_all_locations_and_some_subscriptions_of_their_accounts(stage: Stage) -> None:
    for number, location in ((1, "westeurope"), (2, "westeurope"), (3, "eastus")):
        one = replace(spec(number), location=location)
        await stage.store.create_account(one, placement(first=number == 1), incarnation=f"i{number}", now=at(0))
    other = replace(account_id(4), subscription="ffffffff-0000-0000-0000-000000000001")
    await stage.store.create_account(replace(spec(4), id=other), placement(first=False), incarnation="i4", now=at(0))
    await stage.create(5, key=LATER)
    (occupant,) = await stage.store.occupants(KEY.host)
    assert occupant.watch == await stage.watch()
    assert occupant.locations == {"westeurope", "eastus"}
    assert occupant.subscriptions == (account_id(1).subscription, other.subscription)


async def test_a_warning_and_its_event_are_one_commit_that_a_restart_finds(stage: Stage) -> None:
    await stage.create()
    watch = await stage.watch()
    warning = WatchWarning(WarningKind.VAULT_ELSEWHERE, None, "the vault is in the region eastus")
    told = KeyEvent(EventType.KEY_VAULT_ELSEWHERE, {"keyIdentifier": str(KEY), "message": warning.message})
    lost = Decision({}, {}, None, (warning,), (told,), watch.due_at, changes=True)
    committed = await stage.store.commit_decision(watch, lost, now=at(1))
    assert await stage.watch() == committed
    assert committed.warnings == (warning,)
    assert [row.type for row in await stage.history()][-1] == "byokd.key.vault-elsewhere"
    assert (await stage.store.census()).warnings == {WarningKind.VAULT_ELSEWHERE: 1}
