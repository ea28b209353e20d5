from dataclasses import replace

import pytest
from sqlalchemy import select

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.ledger import Change, News, commit
from byokd.adapters.sql.tables import account_keys, accounts, vaults, watches, wrapping_versions
from byokd.domain.accounts import AccountEvent, AccountSpec
from byokd.domain.identifiers import AccountId, KeyIdentifier, TenantId, VaultHost
from byokd.domain.vocabulary import EncryptionType, EventType, State
from byokd.ports import ExistsError, StaleError
from store.builders import (
    KEY,
    START,
    TENANT,
    CountingIds,
    Stage,
    account_id,
    at,
    auditor,
    denial,
    placement,
    spec,
    target,
    unverified,
    version,
)

OTHER_KEY = KeyIdentifier(VaultHost("fabrikam.vault.azure.net"), "other")


async def test_a_new_account_is_told_as_it_is(stage: Stage) -> None:
    account = await stage.create()
    assert account == await stage.account()
    assert (account.sequence, account.generation, account.followed) == (1, 1, 1)
    assert (account.state, account.reason, account.current) == (State.ACCESSIBLE, None, KEY.at(version(1)))
    assert account.since == account.created_at == account.updated_at == START
    (row,) = await stage.history()
    told = AccountEvent(
        EventType.ACCOUNT_CREATED, account, previous_state=None, detected_by=None, observed_at=None, detail={}
    )
    assert (row.type, row.data, row.sequence, row.time) == (told.type, told.data(), 1, START)
    assert (row.stream, row.retained, row.published_at) == (account.id.topic, "set", None)


async def test_accounts_are_given_by_the_code_points_of_their_ids(stage: Stage) -> None:
    groups = ["a.b", "a-c", "ab", "a_a", "a(d)", "b", "aa"]
    for number, group in enumerate(groups):
        one = replace(spec(key=None), id=replace(account_id(), resource_group=group))
        await stage.store.create_account(one, placement(key=None), incarnation=f"life-{number}", now=START)
    found = [str(account.id) for account in await stage.store.accounts()]
    assert found == sorted(found)
    assert len(found) == len(groups)


async def test_an_account_with_the_system_key(stage: Stage) -> None:
    account = await stage.create(key=None)
    assert account == await stage.account()
    assert (account.encryption, account.state, account.followed) == (
        EncryptionType.SYSTEM_KEY,
        State.ACCESSIBLE,
        0,
    )
    wrapped = await stage.store.wrapped_key(account.id)
    assert wrapped is not None
    assert (wrapped.key_identifier, wrapped.generation, wrapped.sealed.data) == (None, 1, b"sealed wrap 1")


async def test_an_account_is_created_once(stage: Stage) -> None:
    await stage.create()
    before = await stage.contents()
    with pytest.raises(ExistsError):
        await stage.create(key=OTHER_KEY)
    assert await stage.contents() == before


async def test_an_account_that_joins_a_denied_version_is_inaccessible_at_once(stage: Stage) -> None:
    await stage.create(1)
    await stage.decide(**denial(when=at(1)))
    account = await stage.create(2)
    assert account == await stage.account(2)
    assert (account.state, account.sequence) == (State.INACCESSIBLE, 2)
    rows = (await stage.history())[-2:]
    assert [row.type for row in rows] == [EventType.ACCOUNT_CREATED, EventType.ACCOUNT_INACCESSIBLE]
    assert [row.data["state"] for row in rows] == [State.INACCESSIBLE, State.INACCESSIBLE]
    assert await stage.store.follow(limit=10, now=at(2)) == 1


async def test_accounts_are_found_by_id_and_name(stage: Stage) -> None:
    for number in (2, 1, 3):
        await stage.create(number, key=None)
    namesake = replace(spec(2, key=None), id=AccountId(account_id().subscription, "another", account_id(2).name))
    await stage.store.create_account(namesake, placement(key=None), incarnation="n", now=START)
    everybody = await stage.store.accounts()
    assert [str(account.id) for account in everybody] == sorted(str(account.id) for account in everybody)
    assert len(everybody) == 4
    named = await stage.store.accounts(name=account_id(2).name.upper())
    assert {account.id for account in named} == {account_id(2), namesake.id}
    assert await stage.store.account(account_id(9)) is None
    assert await stage.store.wrapped_key(account_id(9)) is None
    assert await stage.store.accounts(name="nobody") == []


async def test_an_update_of_the_location_moves_no_key(stage: Stage) -> None:
    before = await stage.create()
    wrapped = await stage.store.wrapped_key(before.id)
    after = await stage.store.update_account(before, spec(location="northeurope"), None, now=at(1))
    assert after == await stage.account()
    assert after == replace(before, spec=spec(location="northeurope"), sequence=2, updated_at=at(1))
    assert await stage.store.wrapped_key(before.id) == wrapped
    row = (await stage.history())[-1]
    assert (row.type, row.data["changed"], row.sequence) == (EventType.ACCOUNT_UPDATED, "location", 2)


async def test_an_update_can_move_the_key_to_another_key(stage: Stage) -> None:
    before = await stage.create()
    wanted = spec(key=OTHER_KEY, location="northeurope")
    after = await stage.store.update_account(
        before, wanted, placement(7, key=OTHER_KEY, wrap=b"sealed wrap 2"), now=at(1)
    )
    assert after == await stage.account()
    assert (after.generation, after.current, after.followed) == (2, OTHER_KEY.at(version(7)), 1)
    assert after.watch != before.watch
    wrapped = await stage.store.wrapped_key(before.id)
    assert wrapped is not None
    assert (wrapped.generation, wrapped.key_identifier, wrapped.sealed.data) == (2, after.current, b"sealed wrap 2")
    kept = await stage.rows(select(account_keys.c.generation, account_keys.c.superseded_at))
    assert sorted(kept) == [(1, at(1)), (2, None)]
    row = (await stage.history())[-1]
    assert (row.type, row.data["changed"]) == (EventType.ACCOUNT_UPDATED, "location,encryption")
    assert row.data["currentKeyIdentifier"] == str(after.current)


async def test_a_watch_that_its_last_account_left_lingers_unseen_for_the_kept_wrap(stage: Stage) -> None:
    before = await stage.create()
    left = await stage.watch()
    moved = await stage.store.update_account(before, spec(key=None), placement(key=None), now=at(1))
    assert await stage.store.watches() == []
    assert await stage.store.watch(left.id) is None
    assert await stage.store.find_watch(target()) == left
    await stage.store.update_account(moved, spec(), placement(first=False), now=at(2))
    assert [watch.id for watch in await stage.store.watches()] == [left.id]
    assert await stage.store.find_watch(target()) == left


async def test_moving_off_a_denied_key_gives_access_again(stage: Stage) -> None:
    await stage.create()
    await stage.decide(**denial(), **unverified())
    await stage.store.follow(limit=10, now=at(2))
    closed = await stage.account()
    opened = await stage.store.update_account(closed, spec(key=None), placement(key=None), now=at(3))
    assert opened == await stage.account()
    assert (opened.state, opened.reason, opened.since, opened.unverified_since) == (
        State.ACCESSIBLE,
        None,
        at(3),
        None,
    )
    assert (opened.watch, opened.wrapping_version, opened.current, opened.followed) == (None, None, None, 0)
    rows = (await stage.history())[-3:]
    assert [row.type for row in rows] == [
        EventType.ACCOUNT_UPDATED,
        EventType.ACCOUNT_VERIFIED,
        EventType.ACCOUNT_ACCESSIBLE,
    ]
    assert [row.sequence for row in rows] == [4, 5, 6]
    assert rows[-1].data["previousState"] == State.INACCESSIBLE


async def test_moving_to_a_denied_key_takes_access_away(stage: Stage) -> None:
    await stage.create(1)
    await stage.decide(**denial())
    account = await stage.create(2, key=None)
    moved = await stage.store.update_account(account, spec(2), placement(), now=at(3))
    assert moved == await stage.account(2)
    assert moved.state is State.INACCESSIBLE
    assert (await stage.history())[-1].type == EventType.ACCOUNT_INACCESSIBLE


async def test_an_update_of_what_changed_meanwhile_is_refused(stage: Stage) -> None:
    old = await stage.create()
    await stage.store.update_account(old, spec(location="northeurope"), None, now=at(1))
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.update_account(old, spec(key=None), placement(key=None), now=at(2))
    assert await stage.contents() == before


async def test_an_update_of_a_former_life_is_refused(stage: Stage) -> None:
    old = await stage.create()
    await stage.store.delete_account(old.id, now=at(1))
    with pytest.raises(StaleError):
        await stage.store.update_account(old, spec(location="northeurope"), None, now=at(1))
    await stage.create()
    with pytest.raises(StaleError):
        await stage.store.update_account(old, spec(location="northeurope"), None, now=at(2))


@pytest.mark.parametrize(
    "wanted",
    [spec(2), replace(spec(), tenant=TenantId(TENANT[::-1])), spec(key=None), spec(key=OTHER_KEY)],
    ids=["another id", "another tenant", "system key without wrap", "another key without wrap"],
)
async def test_an_update_that_cannot_be_is_a_defect(stage: Stage, wanted: AccountSpec) -> None:
    account = await stage.create()
    with pytest.raises(ValueError, match=r"never change|newly wrapped"):
        await stage.store.update_account(account, wanted, None, now=at(1))


async def test_deleting_erases_everything_but_the_events(stage: Stage) -> None:
    account = await stage.create()
    assert await stage.store.delete_account(account.id, now=at(1))
    for table in (account_keys, accounts, wrapping_versions, watches, vaults):
        assert await stage.rows(select(table)) == []
    rows = await stage.history()
    assert [row.type for row in rows] == [
        EventType.ACCOUNT_CREATED,
        EventType.ACCOUNT_DELETED,
        EventType.KEY_VERSION_RETIRED,
    ]
    assert (rows[1].sequence, rows[1].data["sequence"], rows[1].retained) == (2, 2, "clear")


async def test_deleting_what_is_not_there_writes_nothing(stage: Stage) -> None:
    assert not await stage.store.delete_account(account_id(), now=at(1))
    assert await stage.history() == []


async def test_a_watch_lives_while_another_account_uses_it(stage: Stage) -> None:
    await stage.create(1)
    kept = await stage.create(2)
    await stage.store.delete_account(account_id(1), now=at(1))
    assert [watch.id for watch in await stage.store.watches()] == [kept.watch]
    assert EventType.KEY_VERSION_RETIRED not in [row.type for row in await stage.history()]


async def test_a_vault_lives_while_another_watch_is_in_it(stage: Stage) -> None:
    await stage.create(1)
    await stage.store.claim_vaults("one")
    await stage.create(2, key=replace(KEY, name="another"))
    await stage.store.delete_account(account_id(1), now=at(1))
    assert await stage.rows(select(vaults.c.host, vaults.c.epoch)) == [(KEY.host, 2)]


async def test_a_new_life_begins_at_sequence_one(stage: Stage) -> None:
    first = await stage.create()
    await stage.store.delete_account(first.id, now=at(1))
    second = await stage.create()
    assert (second.sequence, second.generation) == (1, 1)
    assert second.incarnation != first.incarnation


async def test_a_change_of_an_account_that_is_not_as_it_was_is_refused(stage: Stage) -> None:
    """On SQLite the row was read in the same transaction; the guard holds by itself all the same."""
    old = await stage.create()
    new = await stage.store.update_account(old, spec(location="northeurope"), None, now=at(1))
    before = await stage.contents()
    for stale in (old, replace(new, incarnation="another life"), replace(new, spec=spec(2))):
        change = Change.of(stale, stale, [News(EventType.ACCOUNT_UPDATED)], now=at(2))
        with pytest.raises(StaleError):
            await stage.store._runner.write(commit, [change], recorder=Recorder(CountingIds(), auditor()), now=at(2))
    assert await stage.contents() == before
