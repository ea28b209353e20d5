from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, text

from byokd.adapters.sql import SchemaStatus, open_sqlite, schema, upgrade_database
from byokd.adapters.sql.engine import memory_engine, writer_engine
from byokd.adapters.sql.tables import metadata
from byokd.ports import StoreUnavailableError
from store.builders import CountingIds, auditor
from store.conftest import settings_for


def _definitions(connection: Connection) -> set[tuple[str, str]]:
    """What defines each table and index, without regard to white space and the order of the lines in it."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {(name, " ".join(sorted(part.strip(" ,\t") for part in sql.splitlines()))) for name, sql in rows}


@pytest.fixture
def engine() -> Engine:
    return memory_engine()


def test_the_migrations_give_exactly_the_tables(engine: Engine) -> None:
    schema.upgrade(engine)
    made = memory_engine()
    with engine.begin() as migrated, made.begin() as created:
        assert compare_metadata(MigrationContext.configure(migrated), metadata) == []
        schema.create(created, identity="an-id")
        ours = {entry for entry in _definitions(created) if entry[0] != "alembic_version"}
        theirs = {entry for entry in _definitions(migrated) if entry[0] != "alembic_version"}
        assert ours == theirs
        assert schema.current(created) == schema.current(migrated) == schema.HEAD
    made.dispose()
    engine.dispose()


def test_the_head_is_the_newest_migration_and_revisions_compare() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [schema.HEAD]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def test_the_status_tells_behind_and_ahead(engine: Engine) -> None:
    empty = schema.status(engine)
    assert (empty.current, empty.behind, empty.ahead) == (None, True, False)
    schema.upgrade(engine)
    current = schema.status(engine)
    assert (current.current, current.behind, current.ahead) == (schema.HEAD, False, False)
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer = schema.status(engine)
    assert (newer.behind, newer.ahead) == (False, True)
    with pytest.raises(StoreUnavailableError, match="9999"):
        schema.upgrade(engine)
    engine.dispose()


def test_an_upgrade_that_fails_half_way_leaves_the_old_schema(engine: Engine) -> None:
    left = 5

    def crash(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise RuntimeError("crash")

    def tables(connection: Connection) -> int | None:
        return connection.scalar(text("SELECT count(*) FROM sqlite_master"))

    event.listen(engine, "after_cursor_execute", crash)
    with pytest.raises(RuntimeError, match="crash"):
        schema.upgrade(engine)
    event.remove(engine, "after_cursor_execute", crash)
    with engine.begin() as connection:
        assert tables(connection) == 0
    schema.upgrade(engine)
    engine.dispose()


async def test_a_store_is_refused_before_its_upgrade_if_that_is_the_operators(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "byokd.db").model_copy(update={"upgrade_at_start": False})
    with pytest.raises(StoreUnavailableError, match="schema none") as refused:
        open_sqlite(settings, ids=CountingIds(), auditor=auditor())
    assert "byokd db upgrade" in refused.value.hint
    assert upgrade_database(settings) == SchemaStatus(None, schema.HEAD)
    store = open_sqlite(settings, ids=CountingIds(), auditor=auditor())
    await store.ping()
    await store.close()


def test_a_store_of_a_newer_version_is_refused(database: Path) -> None:
    engine = writer_engine(database, busy_timeout=timedelta(seconds=1))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreUnavailableError, match="9999"):
        open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
