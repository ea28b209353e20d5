"""The real store, with trouble on demand."""

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from byokd.adapters.sql.store import SqlStore
from byokd.ports import StoreUnavailableError

SAYS_NOTHING = frozenset({"ping", "record_due"})
"""Writes after which every answer is as before."""

POLLED = frozenset({"ping", "census", "unpublished", "follow", "rewrap_queues", "settle"})
"""What is asked every few seconds."""


class TroubledStore:
    """The store, with trouble on demand: before the transaction, or after it (its outcome is unknown, as promised).

    While nothing is written, hours of polling would be the same few transactions thousands of times; those that found
    nothing to do are not repeated.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._raw: sqlite3.Connection = store._runner.writer.raw_connection().driver_connection  # type: ignore[attr-defined]
        self.calls = 0
        self.fail_at: frozenset[int] = frozenset()
        self.fail_next = ""
        self.fail_all = False
        self.after = False
        self.failed: list[str] = []
        self._nothing: dict[str, object] = {}
        self._seen = self._raw.total_changes

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        transaction = getattr(self._store, name)

        async def troubled(*args: object, **kwargs: object) -> object:
            self.calls += 1
            strikes = self.fail_all or self.calls in self.fail_at or name == self.fail_next
            if strikes and not self.after:
                raise self._trouble(name)
            if self._raw.total_changes != self._seen:
                self._nothing.clear()
                self._seen = self._raw.total_changes
            if name in self._nothing and not (name == "settle" and self._settles(kwargs["before"])):
                return self._nothing[name]
            result = await transaction(*args, **kwargs)
            if name in SAYS_NOTHING:
                self._seen = self._raw.total_changes
            is_polled = name in POLLED and not kwargs.get("after")
            if is_polled and self._raw.total_changes == self._seen and await self._stays(name, result):
                self._nothing[name] = result
            if strikes:
                raise self._trouble(name)
            return result

        return troubled

    async def _stays(self, name: str, result: object) -> bool:
        """Whether the answer is the same later, as long as nothing is written: time alone makes no work."""
        if name in {"ping", "census", "settle"}:
            return True
        if name == "rewrap_queues":
            return not result and (await self._store.census()).rewraps_waiting == 0
        return not result

    def _settles(self, before: datetime) -> bool:
        """Whether time has made work."""
        query = "SELECT 1 FROM account_keys WHERE superseded_at < ? LIMIT 1"
        return self._raw.execute(query, [before.strftime("%Y-%m-%d %H:%M:%S.%f")]).fetchone() is not None

    def _trouble(self, name: str) -> StoreUnavailableError:
        self.failed.append(name)
        self.fail_next = ""
        return StoreUnavailableError("the disk is full", hint="make room")
