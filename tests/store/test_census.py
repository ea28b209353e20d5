from dataclasses import replace

import pytest
from sqlalchemy import text

from byokd.domain.verdict import WatchWarning
from byokd.domain.vocabulary import State, WarningKind
from byokd.ports import StoreUnavailableError
from byokd.records import Census
from store.builders import (
    KEY,
    START,
    Stage,
    account_id,
    at,
    decision,
    denial,
    placement,
    spec,
    suspicion,
    unverified,
    version,
)


async def test_an_empty_store_counts_nothing(stage: Stage) -> None:
    nobody = dict.fromkeys(State, 0)
    assert await stage.store.census() == Census(nobody, 0, 0, 0, 0, 0, 0, None, 0)


async def test_everything_is_counted(stage: Stage) -> None:
    for number in (1, 2, 3):
        await stage.create(number)
    await stage.create(4, key=None)
    pinned = KEY.at(version(1))
    await stage.create(5, key=pinned)
    await stage.decide(pinned, **denial(), **unverified())
    await stage.store.follow(limit=10, now=at(2))
    await stage.store.mark_published([1, 2], now=at(3))
    await stage.adopt(2)
    await stage.decide(**suspicion(await stage.watch()))
    for key, kinds in ((KEY, ["NearExpiry"]), (pinned, ["NearExpiry", "PurgeProtectionOff"])):
        found = await stage.watch(key)
        warned = tuple(WatchWarning(WarningKind(kind), version(1), '["KeyExpired", 100 %') for kind in kinds)
        await stage.store.commit_decision(found, replace(decision(found), warnings=warned), now=at(3))
    assert await stage.store.census() == Census(
        accounts={State.ACCESSIBLE: 4, State.INACCESSIBLE: 1},
        watches=2,
        vaults=1,
        denied_versions=1,
        suspected_versions=1,
        unverified_versions=1,
        unpublished=6,
        oldest_unpublished=START,
        rewraps_waiting=3,
        warnings={WarningKind.NEAR_EXPIRY: 2, WarningKind.PURGE_PROTECTION_OFF: 1},
    )


async def test_a_lingering_watch_is_not_counted(stage: Stage) -> None:
    account = await stage.create()
    await stage.decide(**denial())
    await stage.store.update_account(account, spec(key=None), placement(key=None), now=at(1))
    census = await stage.store.census()
    assert (census.watches, census.denied_versions) == (0, 0)


async def test_the_oldest_unpublished_event_is_the_first_one(stage: Stage) -> None:
    await stage.create()
    await stage.store.delete_account(account_id(), now=at(5))
    await stage.store.mark_published([1], now=at(5))
    assert (await stage.store.census()).oldest_unpublished == at(5)


async def test_a_ping_changes_nothing(stage: Stage) -> None:
    before = await stage.contents()
    await stage.store.ping()
    assert await stage.contents() == before


@pytest.mark.parametrize(("found", "hint"), [("0000", "byokd db upgrade"), ("9999", "newer version")])
async def test_a_ping_finds_another_schema(stage: Stage, found: str, hint: str) -> None:
    change = text("UPDATE alembic_version SET version_num = :found").bindparams(found=found)
    await stage.store._runner.write(lambda connection: connection.execute(change))
    with pytest.raises(StoreUnavailableError, match=f"schema {found}") as refused:
        await stage.store.ping()
    assert hint in refused.value.hint
