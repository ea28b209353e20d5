"""Databases in memory that are emptied and used again: making one, and the statements that its engine compiles, takes
longer than most tests."""

import sqlite3
import uuid

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.opening import open_inline
from byokd.adapters.sql.runners import InlineRunner
from byokd.adapters.sql.store import SqlStore
from byokd.ports import Auditor, Ids
from store.builders import CountingIds
from store.builders import auditor as any_auditor


class Memory:
    """One connection and one engine, with its compiled statements, for one store after the other."""

    def __init__(self) -> None:
        self._store = open_inline(CountingIds(), any_auditor())
        self.runner = self._store._runner
        self.raw: sqlite3.Connection = self.runner.writer.raw_connection().driver_connection  # type: ignore[attr-defined]
        self._empty = sqlite3.connect(":memory:")
        self.raw.backup(self._empty)

    def empty(self, identity: str) -> None:
        """Make it a new one; a store over it must not be used any more."""
        if self.raw.in_transaction:
            self.raw.rollback()
        self._empty.backup(self.raw)
        self.raw.execute("UPDATE store_identity SET id = ?", [identity])


class Lent(InlineRunner):
    """A database until it is closed: then the next store gets it."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory.runner.writer)
        self._memory = memory

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.close()
            _free.append(self._memory)


_free: list[Memory] = []


def empty_inline(ids: Ids, auditor: Auditor) -> SqlStore:
    """As `open_inline`, over a database that nobody uses any more."""
    memory = _free.pop() if _free else Memory()
    memory.empty(str(uuid.uuid4()))
    return SqlStore(Lent(memory), Recorder(ids, auditor))
