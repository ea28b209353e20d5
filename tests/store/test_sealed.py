"""The contract of what rotation and verification need of the store."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from byokd.adapters.sql import SqlStore, seals
from byokd.adapters.sql.tables import account_keys, protected_values
from byokd.ports import StaleError
from byokd.records import Resealed, SealedKey, SealedValue, SealUse, WrappedKey
from store.builders import IDENTITY, TENANT, Stage, account_id, at, commit_rewrap, sealed, version

NEW = SealedKey(b"sealed anew", "2", None)


async def value(stage: Stage, number: int, name: str, *, storage_key: str = "1") -> None:
    row = {
        "account": str(account_id(number)),
        "kind": "content-key",
        "name": name,
        "revision": 3,
        "sealed": b"value " + name.encode(),
        "storage_key": storage_key,
        "created_at": at(0),
        "updated_at": at(0),
    }
    await stage.store._runner.write(lambda c: c.execute(insert(protected_values), row))


async def wrapped(stage: Stage, number: int = 1) -> WrappedKey:
    found = await stage.store.wrapped_key(account_id(number))
    assert found is not None
    return found


async def test_pages_give_every_wrap_once_with_who_opens_it(stage: Stage) -> None:
    await stage.create(1)
    await stage.create(2, key=None)
    await stage.create(3)
    await stage.adopt(2)
    await commit_rewrap(stage.store, await stage.work(1), sealed(b"sealed wrap 2"), now=at(4))
    pages, after = [], None
    while page := await stage.store.stored_keys(after=after, limit=2):
        assert len(page) <= 2
        pages += page
        after = page[-1].wrapped
    assert [(found.wrapped.account, found.wrapped.generation, found.superseded) for found in pages] == [
        (account_id(1), 1, True),
        (account_id(1), 2, False),
        (account_id(2), 1, False),
        (account_id(3), 1, False),
    ]
    assert [found.identity for found in pages] == [IDENTITY, IDENTITY, None, IDENTITY]
    assert {found.tenant for found in pages} == {TENANT}
    assert pages[1].wrapped == await wrapped(stage)
    assert pages[0].wrapped.key_identifier is not None
    assert pages[0].wrapped.key_identifier.version == version(1)


async def test_uses_count_what_is_sealed_under_which_keys(stage: Stage) -> None:
    assert await stage.store.seal_uses() == []
    await stage.create(1)
    await stage.create(2, key=None)
    await value(stage, 1, "one")
    await value(stage, 1, "two", storage_key="9")
    assert await stage.store.seal_uses() == [
        SealUse("1", None, keys=1, values=1),
        SealUse("1", "1", keys=1, values=0),
        SealUse("9", None, keys=0, values=1),
    ]


async def test_what_given_keys_sealed_is_found_page_by_page(stage: Stage) -> None:
    for number in (1, 2, 3):
        await stage.create(number)
    await stage.create(4, key=None)
    for name in ("a", "b", "c"):
        await value(stage, 1, name)
    await value(stage, 2, "z", storage_key="2")
    use = SealUse("1", None, 0, 0)
    first = await stage.store.keys_sealed_by(use, after=None, limit=2)
    rest = await stage.store.keys_sealed_by(use, after=first[-1], limit=2)
    assert [key.account for key in (*first, *rest)] == [account_id(1), account_id(2), account_id(3)]
    (under_system,) = await stage.store.keys_sealed_by(SealUse("1", "1", 0, 0), after=None, limit=9)
    assert under_system.account == account_id(4)
    assert await stage.store.keys_sealed_by(SealUse("2", None, 0, 0), after=None, limit=9) == []
    some = await stage.store.values_sealed_by(use, after=None, limit=2)
    more = await stage.store.values_sealed_by(use, after=some[-1], limit=2)
    assert [found.name for found in (*some, *more)] == ["a", "b", "c"]
    assert await stage.store.values_sealed_by(SealUse("1", "1", 0, 0), after=None, limit=9) == []
    own = await stage.store.values_of(account_id(2), after=None, limit=9)
    assert own == [SealedValue(account_id(2), "content-key", "z", 3, b"value z", "2")]
    assert await stage.store.values_of(account_id(2), after=own[0], limit=9) == []
    both = [account_id(3), account_id(2), account_id(1)]
    page = await stage.store.values_among(both, after=None, limit=3)
    last = await stage.store.values_among(both, after=page[-1], limit=3)
    assert [found.name for found in (*page, *last)] == ["a", "b", "c", "z"]
    assert await stage.store.values_among([account_id(3)], after=None, limit=9) == []


async def test_seals_are_exchanged_and_nothing_else_of_the_row(stage: Stage) -> None:
    await stage.create(1)
    await value(stage, 1, "one")
    (found,) = await stage.store.values_of(account_id(1), after=None, limit=9)
    before, account = await wrapped(stage), await stage.account()
    history = await stage.history()
    await stage.store.commit_reseal([Resealed(before, NEW), Resealed(found, SealedKey(b"value anew", "2", None))])
    assert await wrapped(stage) == replace(before, sealed=NEW)
    (after,) = await stage.store.values_of(account_id(1), after=None, limit=9)
    assert after == replace(found, sealed=b"value anew", storage_key="2")
    assert await stage.account() == account
    assert await stage.history() == history


async def test_a_system_key_is_exchanged_with_the_seal(stage: Stage) -> None:
    await stage.create(1, key=None)
    before = await wrapped(stage)
    await stage.store.commit_reseal([Resealed(before, SealedKey(b"anew", "2", "3"))])
    assert (await wrapped(stage)).sealed == SealedKey(b"anew", "2", "3")


@pytest.mark.parametrize("change", ["sealed", "storage_key", "generation", "account", "system_key"])
async def test_one_that_changed_meanwhile_refuses_all(stage: Stage, change: str) -> None:
    await stage.create(1)
    await stage.create(2)
    good, stale = await wrapped(stage, 1), await wrapped(stage, 2)
    if change in {"generation", "account"}:
        stale = replace(stale, **{change: 7 if change == "generation" else account_id(9)})
    elif change == "system_key":
        stale = replace(stale, sealed=replace(stale.sealed, system_key="1"))
    else:
        values = {change: b"other" if change == "sealed" else "other"}
        await stage.store._runner.write(
            lambda c: c.execute(
                update(account_keys).where(account_keys.c.account == str(account_id(2))).values(**values)
            )
        )
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.commit_reseal([Resealed(good, NEW), Resealed(stale, NEW)])
    assert await stage.contents() == before


@pytest.mark.parametrize("change", [{"revision": 4}, {"sealed": b"other"}, {"storage_key": "other"}, {"name": "other"}])
async def test_a_value_that_was_written_meanwhile_refuses_all(stage: Stage, change: dict[str, object]) -> None:
    await stage.create(1)
    await value(stage, 1, "one")
    (found,) = await stage.store.values_of(account_id(1), after=None, limit=9)
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.commit_reseal(
            [Resealed(await wrapped(stage), NEW), Resealed(replace(found, **change), SealedKey(b"anew", "2", None))]
        )
    assert await stage.contents() == before


async def test_a_reseal_disturbs_no_rewrap_and_no_rewrap_a_reseal(stage: Stage) -> None:
    await stage.create(1)
    await stage.adopt(2)
    work, before = await stage.work(1), await wrapped(stage)
    await commit_rewrap(stage.store, work, sealed(b"sealed wrap 2"), now=at(4))
    await stage.store.commit_reseal([Resealed(before, NEW)])
    current, superseded = await wrapped(stage), (await stage.store.stored_keys(after=None, limit=1))[0]
    assert (current.generation, current.sealed) == (2, sealed(b"sealed wrap 2"))
    assert (superseded.wrapped.generation, superseded.wrapped.sealed) == (1, NEW)


async def test_an_order_to_rotate_is_kept_until_it_is_done(stage: Stage) -> None:
    assert await stage.store.rotation() is None
    first = await stage.store.begin_rotation(storage_key="2", system_key="1", now=at(1))
    assert await stage.store.begin_rotation(storage_key="2", system_key="1", now=at(2)) == first
    assert await stage.store.rotation() == first
    await stage.store.end_rotation(first, stuck=3, now=at(3))
    assert await stage.store.rotation() == replace(first, ended_at=at(3), stuck=3)
    with pytest.raises(StaleError):
        await stage.store.end_rotation(first, stuck=0, now=at(4))
    second = await stage.store.begin_rotation(storage_key="2", system_key="1", now=at(5))
    assert second.number > first.number
    third = await stage.store.begin_rotation(storage_key="3", system_key="1", now=at(6))
    assert await stage.store.rotation() == third


class Explaining:
    """Stands in for a connection, to learn how a query would be carried out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[str] = []

    def execute(self, statement: Any) -> list[Any]:  # noqa: ANN401 - as SQLAlchemy's
        compiled = statement.compile(self._connection.engine)
        values = tuple(compiled.params[name] for name in compiled.positiontup)
        rows = self._connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)
        self.plans += [row.detail for row in rows]
        return []


async def test_a_page_costs_no_more_than_its_rows(file_store: SqlStore) -> None:
    use, key = SealUse("1", None, 0, 0), WrappedKey(account_id(1), 1, None, NEW)
    value = SealedValue(account_id(1), "k", "n", 1, b"", "1")

    def explain(connection: Connection) -> list[str]:
        explaining: Any = Explaining(connection)
        seals.keys_sealed_by(explaining, use, after=key, limit=9)
        seals.keys_sealed_by(explaining, replace(use, system_key="1"), after=key, limit=9)
        seals.values_sealed_by(explaining, use, after=value, limit=9)
        return list(explaining.plans)

    plans = await file_store._runner.read(explain)
    assert len(plans) == 3
    assert all("SEARCH" in plan and "_seals" in plan for plan in plans), plans
