"""Whatever is done to the record without the audit key is found, and named."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from byokd.adapters.sql import SqlStore, open_sqlite
from byokd.adapters.sql.audit import Audit, export, reading
from byokd.domain.chain import Defect, Flaw, ForgottenError, Heads, KnownHead
from byokd.domain.vocabulary import EventType
from store.builders import KEY, CountingIds, Stage, account_id, at, auditor, denial, finish, usability
from store.conftest import settings_for
from store.memory import empty_inline

FIRST, SECOND = (account_id(number).topic for number in (1, 2))


async def lived(stage: Stage) -> None:
    """Two accounts and their key over an hour; of each stream the beginning is forgotten.

    First: events 1 (forgotten), 3, 5, 7. Second: 2 (forgotten), 4, 6, 8. The key: 9.
    """
    for number in (1, 2):
        await stage.create(number)
    for minute, verdict in ((2, denial()), (3, usability()), (4, denial())):
        await stage.decide(**verdict)
        await stage.store.follow(limit=10, now=at(minute))
    await stage.adopt(2)
    await stage.store.mark_published(range(1, 9), now=at(5))
    assert await stage.store.forget(before=at(1), limit=10) == 2


@pytest.fixture
async def record(database: Path) -> Path:
    store = open_sqlite(settings_for(database), ids=CountingIds(), auditor=auditor())
    await lived(Stage(store))
    await store.close()
    return database


def found(database: Path) -> list[Defect]:
    with reading(settings_for(database)) as engine:
        return list(Audit(engine, auditor()).defects())


def tampered(database: Path, *statements: str) -> list[Defect]:
    with closing(sqlite3.connect(database)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
        connection.commit()
    return found(database)


def heads_of(database: Path) -> tuple[list[KnownHead], Heads]:
    heads: list[KnownHead] = []
    with reading(settings_for(database)) as engine:
        return heads, export(engine, since=None, on_event=lambda _: None, on_head=heads.append)


async def test_a_record_that_nobody_touched_is_good(record: Path) -> None:
    with reading(settings_for(record)) as engine:
        audit = Audit(engine, auditor())
        assert list(audit.defects()) == []
        assert (audit.streams, audit.events) == (3, 7)


async def test_it_is_read_beside_a_running_daemon_and_nothing_is_written(record: Path) -> None:
    store = open_sqlite(settings_for(record), ids=CountingIds(), auditor=auditor())
    before = await Stage(store).contents()
    assert found(record) == []
    assert await Stage(store).contents() == before
    await store.close()


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no database"), reading(settings_for(tmp_path / "none.db")):
        pass
    assert list(tmp_path.iterdir()) == []


SWAP = (
    "UPDATE events SET number = 99 WHERE number = 3",
    "UPDATE events SET number = 3 WHERE number = 5",
    "UPDATE events SET number = 5 WHERE number = 99",
)
CASES: dict[str, tuple[tuple[str, ...], set[Flaw]]] = {
    "data": (
        ("UPDATE events SET data = replace(data, 'Denied', 'Usable') || ' ' WHERE number = 5",),
        {Flaw.EVENT_CHANGED},
    ),
    "bytes that are no text": (
        ("UPDATE events SET data = CAST(x'7b22ff227d' AS TEXT) WHERE number = 5",),
        {Flaw.EVENT_CHANGED},
    ),
    "time": (("UPDATE events SET time = '2020-01-01 00:00:00.000000' WHERE number = 5",), {Flaw.EVENT_CHANGED}),
    "time that is none": (("UPDATE events SET time = 'noon' WHERE number = 5",), {Flaw.EVENT_CHANGED}),
    "type": (("UPDATE events SET type = 'byokd.account.updated' WHERE number = 5",), {Flaw.EVENT_CHANGED}),
    "sequence": (("UPDATE events SET sequence = 99 WHERE number = 5",), {Flaw.EVENT_CHANGED}),
    "retained": (("UPDATE events SET retained = 'keep' WHERE number = 5",), {Flaw.EVENT_CHANGED}),
    "mac": (("UPDATE events SET mac = zeroblob(32) WHERE number = 5",), {Flaw.EVENT_CHANGED}),
    "mac that is text": (("UPDATE events SET mac = 'x' WHERE number = 7",), {Flaw.EVENT_CHANGED}),
    "place": (("UPDATE events SET previous = zeroblob(32) WHERE number = 5",), {Flaw.EVENT_CHANGED}),
    "moved to another stream": (
        ("UPDATE events SET stream = replace(stream, 'account00001', 'account00002') WHERE number = 5",),
        {Flaw.EVENT_MISSING, Flaw.EVENT_CHANGED, Flaw.EVENT_ADDED},
    ),
    "middle deleted": (("DELETE FROM events WHERE number = 5",), {Flaw.EVENT_MISSING}),
    "beginning deleted": (("DELETE FROM events WHERE number = 3",), {Flaw.BEGINNING_MISSING}),
    "end deleted": (("DELETE FROM events WHERE number = 7",), {Flaw.END_MISSING, Flaw.ACCOUNT_DIFFERS}),
    "all of a stream deleted": (
        ("DELETE FROM events WHERE stream LIKE '%account00001'",),
        {Flaw.END_MISSING, Flaw.ACCOUNT_DIFFERS},
    ),
    "all of a stream and its chain deleted": (
        (
            "DELETE FROM events WHERE stream LIKE '%account00001'",
            "DELETE FROM chains WHERE stream LIKE '%account00001'",
        ),
        {Flaw.ACCOUNT_DIFFERS},
    ),
    "two swapped": (SWAP, {Flaw.EVENTS_REORDERED}),
    "end moved to the beginning": (
        ("UPDATE events SET number = 1 WHERE number = 7",),
        {Flaw.EVENTS_REORDERED, Flaw.ACCOUNT_DIFFERS},
    ),
    "one added": (
        (
            """INSERT INTO events (id, stream, type, time, data, retained, previous, mac, audit_key)
            SELECT 'new', stream, type, time, data, retained, mac, mac, audit_key FROM events WHERE number = 7""",
        ),
        {Flaw.EVENT_CHANGED, Flaw.EVENT_ADDED},
    ),
    "end deleted and the chain made to fit": (
        (
            """UPDATE chains SET length = length - 1, head = (SELECT previous FROM events WHERE number = 7)
            WHERE stream LIKE '%account00001'""",
            "DELETE FROM events WHERE number = 7",
        ),
        {Flaw.CHAIN_CHANGED, Flaw.ACCOUNT_DIFFERS},
    ),
    "chain deleted": (("DELETE FROM chains WHERE stream LIKE '%account00001'",), {Flaw.CHAIN_MISSING}),
    "chain of another stream": (
        (
            """UPDATE chains SET (floor, floor_number, forgotten, head, length, mac) = (SELECT floor, floor_number,
            forgotten, head, length, mac FROM chains WHERE stream LIKE '%account00002')
            WHERE stream LIKE '%account00001'""",
        ),
        {Flaw.CHAIN_CHANGED},
    ),
    "another audit key": (("UPDATE events SET audit_key = 'lost' WHERE number = 5",), {Flaw.AUDIT_KEY_MISSING}),
    "another audit key of a chain": (("UPDATE chains SET audit_key = 'lost'",), {Flaw.AUDIT_KEY_MISSING}),
    "account set back": (("UPDATE accounts SET sequence = sequence - 1 WHERE rowid = 1",), {Flaw.ACCOUNT_DIFFERS}),
    "account deleted": (("DELETE FROM accounts WHERE rowid = 1",), {Flaw.ACCOUNT_DIFFERS}),
    "account without events": (("UPDATE accounts SET id = '/nobody' WHERE rowid = 1",), {Flaw.ACCOUNT_DIFFERS}),
}


@pytest.mark.parametrize("case", CASES)
async def test_tampering_is_found_and_named(record: Path, case: str) -> None:
    statements, flaws = CASES[case]
    assert {defect.flaw for defect in tampered(record, *statements)} == flaws


async def test_every_flaw_is_shown_by_a_test() -> None:
    assert {flaw for _, flaws in CASES.values() for flaw in flaws} == set(Flaw) - {Flaw.HEAD_UNKNOWN}


async def test_a_forgotten_event_that_is_put_back_is_found(stage: Stage) -> None:
    await lived(stage)
    store = stage.store
    known = await stage.history()
    await store.mark_published([row.number for row in known], now=at(5))
    forgotten = known[0]
    assert await store.forget(before=at(2.5), limit=10) > 0

    await store._runner.write(
        lambda connection: connection.execute(
            text(
                "INSERT INTO events (number, id, stream, type, time, account, incarnation, sequence, data, retained, "
                "previous, mac, audit_key) VALUES (:number, :id, :stream, :type, '2026-03-01 12:02:00', :account, "
                ":incarnation, :sequence, '{}', :retained, :previous, :mac, :audit_key)"
            ),
            forgotten._asdict(),
        )
    )
    assert Flaw.EVENT_ADDED in {defect.flaw for defect in Audit(store._runner.writer, auditor()).defects()}


async def test_a_database_that_was_set_back_as_a_whole_is_found_by_an_earlier_head(record: Path) -> None:
    old = record.read_bytes()  # noqa: ASYNC240 - nobody else runs
    store = open_sqlite(settings_for(record), ids=CountingIds(), auditor=auditor())
    stage = Stage(store)
    stage.lives = 7
    await store.delete_account(account_id(2), now=at(6))
    await store.record_heads(await store.heads(), now=at(7))
    await store.close()
    known, heads = heads_of(record)
    with reading(settings_for(record)) as engine:
        audit = Audit(engine, auditor())
        assert [audit.missing(head) for head in known] == [None] * 4
        assert audit.differing(heads) is None
    record.write_bytes(old)  # noqa: ASYNC240 - as above
    assert found(record) == []
    with reading(settings_for(record)) as engine:
        audit = Audit(engine, auditor())
        missing = {defect.stream: defect.flaw for head in known if (defect := audit.missing(head))}
        assert missing.keys() == {SECOND, "service"} | ({KEY.topic} & missing.keys())
        assert set(missing.values()) == {Flaw.HEAD_UNKNOWN}
        differing = audit.differing(heads)
        assert differing is not None
        assert differing.flaw == Flaw.HEAD_UNKNOWN


async def test_heads_of_forgotten_events_are_no_defect(stage: Stage) -> None:
    for number in (1, 2):
        await stage.create(number)
    store = stage.store
    heads = await store.heads()
    engine = store._runner.writer
    known: list[KnownHead] = []
    export(engine, since=None, on_event=lambda _: None, on_head=known.append)
    await stage.decide(**denial())
    await store.follow(limit=10, now=at(2))
    await store.mark_published([1, 2, 3, 4], now=at(3))
    audit = Audit(engine, auditor())
    assert audit.differing(heads) is None
    assert await store.forget(before=at(1), limit=10) == 2
    assert [audit.missing(head) for head in known] == [None, None]
    assert audit.differing(heads) is None
    await stage.decide(**usability())
    await store.follow(limit=10, now=at(4))
    await store.mark_published([5, 6], now=at(5))
    assert await store.forget(before=at(3), limit=10) == 2
    assert [audit.missing(head) for head in known] == [None, None]
    with pytest.raises(ForgottenError):
        audit.differing(heads)


async def test_published_heads_are_those_of_that_moment(stage: Stage) -> None:
    await lived(stage)
    heads = await stage.store.heads()
    await stage.store.record_heads(heads, now=at(8))
    (row,) = await stage.store.history(after=0, limit=10, stream="service")
    assert (row.type, row.data) == (
        EventType.SERVICE_AUDIT_HEADS,
        {"streams": heads.streams, "lastEvent": heads.last_event, "digest": heads.digest},
    )
    assert Audit(stage.store._runner.writer, auditor()).differing(heads) is None


async def test_a_chain_is_only_shortened_from_its_beginning_even_when_the_clock_was_set_back(stage: Stage) -> None:
    await stage.create()
    for minute, verdict in ((30, denial()), (2, usability()), (40, denial())):
        await stage.decide(**verdict)
        await stage.store.follow(limit=10, now=at(minute))
    await stage.store.mark_published([1, 2, 3, 4], now=at(41))
    assert await stage.store.forget(before=at(10), limit=10) == 1
    assert [row.number for row in await stage.history()] == [2, 3, 4]
    assert list(Audit(stage.store._runner.writer, auditor()).defects()) == []


COLUMNS = ("id", "stream", "type", "time", "account", "incarnation", "sequence", "data", "retained", "previous", "mac")
VALUES = st.one_of(st.text(max_size=5), st.binary(max_size=40), st.integers(0, 9))


def _with_record(change: Callable[[Any, SqlStore], None]) -> list[Defect]:
    store = empty_inline(CountingIds(), auditor())
    try:
        finish(lived(Stage(store)))
        finish(store._runner.write(lambda connection: change(connection, store)))
        return list(Audit(store._runner.writer, auditor()).defects())
    finally:
        finish(store.close())


@settings(max_examples=30)
@given(number=st.integers(3, 8), column=st.sampled_from(COLUMNS), value=VALUES)
def test_any_change_of_an_event_is_found(number: int, column: str, value: object) -> None:
    def change(connection: Any, _: SqlStore) -> None:  # noqa: ANN401 - a connection
        where = {"number": number, "value": value}
        before = connection.scalar(text(f"SELECT {column} FROM events WHERE number = :number"), where)  # noqa: S608
        try:
            connection.execute(text(f"UPDATE events SET {column} = :value WHERE number = :number"), where)  # noqa: S608
        except IntegrityError:
            reject()
        after = connection.scalar(text(f"SELECT {column} FROM events WHERE number = :number"), where)  # noqa: S608
        assume(before != after)

    assert _with_record(change)


@settings(max_examples=30)
@given(numbers=st.sets(st.integers(3, 9), min_size=1))
def test_any_deletion_of_events_is_found(numbers: set[int]) -> None:
    def change(connection: Any, _: SqlStore) -> None:  # noqa: ANN401 - a connection
        for number in numbers:
            connection.execute(text("DELETE FROM events WHERE number = :number"), {"number": number})

    assert _with_record(change)


@given(order=st.permutations([3, 5, 7]))
def test_any_other_order_of_a_stream_is_found(order: list[int]) -> None:
    assume(order != [3, 5, 7])

    def change(connection: Any, _: SqlStore) -> None:  # noqa: ANN401 - a connection
        for sign in (-1, 1):
            for old, new in zip([3, 5, 7], order, strict=True):
                numbers = {"old": old if sign < 0 else -new, "new": new * sign}
                connection.execute(text("UPDATE events SET number = :new WHERE number = :old"), numbers)

    assert {Flaw.EVENTS_REORDERED} <= {defect.flaw for defect in _with_record(change)}


class RecordMachine(RuleBasedStateMachine):
    """Any sequence of commits and of forgetting leaves a good record, in which every earlier head is found again."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(empty_inline(CountingIds(), auditor()))
        self.store = self.stage.store
        self.minute = 0
        self.known: list[KnownHead] = []

    def teardown(self) -> None:
        finish(self.store.close())

    def _now(self) -> int:
        self.minute += 1
        return self.minute

    @rule(number=st.integers(1, 3))
    def create_or_delete(self, number: int) -> None:
        if not finish(self.store.delete_account(account_id(number), now=at(self._now()))):
            finish(self.stage.create(number))

    @rule(verdict=st.sampled_from([denial(), usability()]), limit=st.integers(1, 3))
    def judge(self, verdict: dict[str, Any], limit: int) -> None:
        if finish(self.store.watches()):
            finish(self.stage.decide(**verdict))
            finish(self.store.follow(limit=limit, now=at(self._now())))

    @rule()
    def publish(self) -> None:
        rows = finish(self.store.unpublished(after=0, limit=100))
        finish(self.store.mark_published([row.number for row in rows], now=at(self._now())))

    @rule(age=st.integers(-5, 5), limit=st.integers(1, 5))
    def forget(self, age: int, limit: int) -> None:
        finish(self.store.forget(before=at(self.minute - age), limit=limit))

    @rule()
    def record_heads(self) -> None:
        if finish(self.store.untold_since()) is not None:
            finish(self.store.record_heads(finish(self.store.heads()), now=at(self._now())))
            assert finish(self.store.untold_since()) is None

    @rule()
    def note_the_heads(self) -> None:
        export(self.store._runner.writer, since=None, on_event=lambda _: None, on_head=self.known.append)

    @invariant()
    def the_record_is_good(self) -> None:
        audit = Audit(self.store._runner.writer, auditor())
        assert list(audit.defects()) == []
        assert [defect for head in self.known[-9:] if (defect := audit.missing(head))] == []


RecordMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
test_any_order_of_use = RecordMachine.TestCase
