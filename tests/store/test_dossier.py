"""Everything that explains how an account is, and what a database looks like to a guest."""

from pathlib import Path

import pytest

from byokd.adapters.sql import SqlStore, open_postgres
from byokd.adapters.sql.inspection import inspect_store
from byokd.domain.vocabulary import EventType, Reason
from byokd.settings import StoreSettings
from store.builders import IDENTITY, KEY, TENANT, CountingIds, Stage, account_id, at, auditor, denial
from store.conftest import settings_for


async def test_a_dossier_has_account_watch_and_the_last_events(stage: Stage) -> None:
    await stage.create(1)
    await stage.create(2)
    await stage.decide(**denial(Reason.KEY_DISABLED, when=at(1)))
    await stage.store.follow(limit=10, now=at(2))
    dossier = await stage.store.dossier(account_id(1), most=10)
    assert dossier is not None
    assert dossier.account == await stage.account(1)
    assert dossier.watch == await stage.watch()
    assert [event.type for event in dossier.events] == [EventType.ACCOUNT_CREATED, EventType.ACCOUNT_INACCESSIBLE]
    assert (dossier.rewrap_attempts, dossier.rewrap_due_at, dossier.rewrap_failure) == (0, None, None)
    last = await stage.store.dossier(account_id(1), most=1)
    assert last is not None
    assert last.events == dossier.events[1:]


async def test_a_dossier_tells_why_a_rewrap_failed_and_when_it_is_tried_again(stage: Stage) -> None:
    await stage.create(1)
    await stage.adopt(2)
    for attempt in (1, 2, 3):
        work = await stage.work()
        await stage.store.rewrap_failed(work, f"refused {attempt}", now=at(attempt), retry_at=at(10 + attempt))
    dossier = await stage.store.dossier(account_id(1), most=10)
    assert dossier is not None
    assert (dossier.rewrap_attempts, dossier.rewrap_due_at) == (3, at(13))
    assert dossier.rewrap_failure is not None
    assert dossier.rewrap_failure.data["failure"] == "refused 2"


async def test_without_an_account_there_is_no_dossier_and_with_the_system_key_no_watch(stage: Stage) -> None:
    assert await stage.store.dossier(account_id(1), most=10) is None
    await stage.create(1, key=None)
    dossier = await stage.store.dossier(account_id(1), most=10)
    assert dossier is not None
    assert dossier.watch is None


async def test_a_file_is_inspected_beside_its_daemon(file_store: SqlStore, database: Path) -> None:
    stage = Stage(file_store)
    await stage.create(1)
    await stage.create(2, key=None)
    look = inspect_store(settings_for(database))
    assert (look.schema, look.accounts, look.vaults, look.identities) == (look.needed, 2, 1, {IDENTITY})
    assert [(vault.host, vault.tenant) for vault in look.sample] == [(KEY.host, TENANT)]
    assert look.using == {IDENTITY: look.sample}
    assert str(look.holder).startswith("process ")


@pytest.mark.real("postgresql")
async def test_a_server_is_inspected_beside_its_daemon(postgresql_url: str) -> None:
    settings = StoreSettings(url=postgresql_url)
    assert inspect_store(settings).holder is None
    store = open_postgres(settings, ids=CountingIds(), auditor=auditor())
    try:
        await Stage(store).create(1)
        look = inspect_store(settings)
    finally:
        await store.close()
    assert (look.schema, look.accounts, len(look.sample)) == (look.needed, 1, 1)
    assert str(look.holder).startswith("the server's process ")
    assert "postgresql://" not in look.place
