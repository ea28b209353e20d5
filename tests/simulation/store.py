"""The real store, in memory, made once per process; with trouble on demand, and somebody who reads every commit."""

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.store import SqlStore
from byokd.ports import Auditor, Ids, StaleError, StoreUnavailableError
from simulation.life import Life
from simulation.trace import Trace
from store.memory import Memory

SAYS_NOTHING = frozenset({"record_due"})
"""A write after which every answer is as before."""

POLLED = frozenset(
    {"ping", "census", "unpublished", "follow", "rewrap_queues", "settle", "contiguous", "untold_since", "rotation"}
)
"""What is asked every few seconds. While nothing was written, and there was nothing to do, there is nothing to do."""

TIMED = {
    "rewrap_queues": "SELECT 1 FROM wrapping_versions WHERE is_current = 0 AND retired_at IS NULL LIMIT 1",
}
"""Where time alone can make work: whether there is anything that it could make due."""


class Database(Memory):
    """The same for all worlds of a process; empty for each."""

    def emptied(self, ids: Ids, auditor: Auditor) -> SqlStore:
        """Give a store over an empty database; the one before must not be used any more."""
        self.empty("simulated")
        return SqlStore(self.runner, Recorder(ids, auditor))


class SimStore:
    """The port. Fails before or after a transaction as told; `on_commit` hears of every one that changed something.

    `fails` are calls to come, by their number; `loses` names a transaction whose next outcome is not told.
    """

    def __init__(self, store: SqlStore, raw: sqlite3.Connection, trace: Trace) -> None:
        self._store = store
        self._raw = raw
        self._trace = trace
        self.life = Life(0, 0.0)
        self.calls = 0
        self.fails: dict[int, str] = {}
        self.loses: str | None = None
        self.fails_all = False
        self.touched = 0.0
        self.on_commit: Callable[[str], None] = lambda _: None
        self.on_loss: Callable[[str], None] = lambda _: None
        self._nothing: dict[str, object] = {}
        self._bound: dict[str, Callable[..., Awaitable[Any]]] = {}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)
        bound = self._bound[name] = self._troubled(name, getattr(self._store, name))
        setattr(self, name, bound)
        return bound

    def _troubled(self, name: str, transaction: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        polled = name in POLLED
        place, done = f"store {name}", f"store {name} done"

        async def troubled(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the method
            self.calls += 1
            self.life.pass_by(place)
            if self.fails_all or self.fails:
                self._fail(name, "before")
            key = f"{name}{kwargs.get('after', '')}{kwargs.get('limit', '')}" if polled else ""
            if key in self._nothing and not (name == "settle" and self._settles(kwargs["before"])):
                return self._nothing[key]
            before = self._raw.total_changes
            try:
                result = await transaction(*args, **kwargs)
            except StaleError:
                self._trace.note(f"store {name} stale")
                self._trace.count("store: stale")
                self.on_loss(name)
                raise
            if name == "ping":
                self._nothing[key] = result
            elif self._raw.total_changes != before:
                if name not in SAYS_NOTHING:
                    self._nothing.clear()
                    self._trace.note(f"store {name}")
                    self.on_commit(name)
                if self.fails or name == self.loses:
                    self._fail(name, "after")
                self._pass(done, name)
            elif polled and not self._may_come_due(name):
                self._nothing[key] = result
            return result

        return troubled

    def _pass(self, done: str, name: str) -> None:
        try:
            self.life.pass_by(done)
        finally:
            if self.life.is_dead:
                self.on_loss(name)

    def _fail(self, name: str, when: str) -> None:
        if self.fails_all or self.fails.get(self.calls) == when or (name == self.loses and when == "after"):
            self.fails.pop(self.calls, None)
            self.loses = None
            self._trace.note(f"store {name} refused {when}")
            self._trace.count(f"store: refused {when} the commit")
            self.on_loss(name)
            raise StoreUnavailableError("the disk is full", hint="make room")

    def _settles(self, before: datetime) -> bool:
        query = "SELECT 1 FROM account_keys WHERE superseded_at < ? LIMIT 1"
        return self._raw.execute(query, (before.strftime("%Y-%m-%d %H:%M:%S.%f"),)).fetchone() is not None

    def _may_come_due(self, name: str) -> bool:
        query = TIMED.get(name)
        return query is not None and self._raw.execute(query).fetchone() is not None
