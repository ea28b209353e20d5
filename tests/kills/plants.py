"""Mistakes, planted in front of the guarded ports: the kill tests must find each of them, or they prove nothing."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from byokd.domain.identifiers import AccountId
from byokd.ports import Store
from byokd.records import OutboxRow, Resealed, Rewrapped, WrappedKey
from byokd.runtime.outside import Outside
from byokd.settings import Settings


class _Mistaken:
    """A store that does one thing wrongly, and the rest as it should."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self._url = url

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        return getattr(self._store, name)


class _MarksFirst(_Mistaken):
    """Takes events for published when it hands them out; and trusts itself, where the marker would heal that."""

    async def unpublished(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        rows = await self._store.unpublished(after=after, limit=limit)
        await self._store.mark_published([row.number for row in rows], now=datetime.now(UTC))
        return rows

    async def resend(self, **_: object) -> int:
        return 0


class _OverwritesWraps(_Mistaken):
    """Puts the new wrap over the old one, and only then tells which version and generation it is."""

    async def commit_rewraps(self, moved: Sequence[Rewrapped], *, now: datetime) -> frozenset[AccountId]:
        with closing(sqlite3.connect(self._url.removeprefix("sqlite:///"))) as connection, connection:
            connection.executemany(
                "UPDATE account_keys SET sealed = ? WHERE account = ? AND superseded_at IS NULL",
                [(one.sealed.data, str(one.work.account.id)) for one in moved],
            )
        return await self._store.commit_rewraps(moved, now=now)


class _NamesKeysFirst(_Mistaken):
    """Tells that an account key is under the newest service keys, and only then puts it there."""

    async def commit_reseal(self, resealed: Sequence[Resealed]) -> None:
        told: list[Resealed] = []
        with closing(sqlite3.connect(self._url.removeprefix("sqlite:///"))) as connection, connection:
            for one in resealed:
                before, after = one.before, one.after
                if isinstance(before, WrappedKey):
                    connection.execute(
                        "UPDATE account_keys SET storage_key = ?, system_key = ? WHERE account = ? AND generation = ?",
                        (after.storage_key, after.system_key, str(before.account), before.generation),
                    )
                    before = replace(before, sealed=replace(after, data=before.sealed.data))
                told.append(Resealed(before, after))
        await self._store.commit_reseal(told)


def _plant(mistaken: type[_Mistaken]) -> Callable[[Outside, Settings], Outside]:
    def planted(outside: Outside, settings: Settings) -> Outside:
        store: Any = mistaken(outside.store, settings.store.url)
        return replace(outside, store=store)

    return planted


PLANTS = {
    "marks-first": _plant(_MarksFirst),
    "overwrites-wraps": _plant(_OverwritesWraps),
    "names-keys-first": _plant(_NamesKeysFirst),
}
