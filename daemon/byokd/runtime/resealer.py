"""Seals anew, under the newest service keys, what older ones sealed: when it is ordered, and until it is done."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from byokd.domain.payload import PayloadInvalidError
from byokd.ports import Clock, SealBrokenError, Sealer, ServiceKey, ServiceKeyMissingError, StaleError, Store
from byokd.records import Resealed, Rotation, SealedValue, SealUse, WrappedKey
from byokd.runtime.layers import Layers, SealUnprovenError
from byokd.runtime.metrics import Metrics
from byokd.runtime.service_keys import keys_of
from byokd.runtime.waking import Bell

BATCH: Final = 200
"""Seals per transaction: a few milliseconds, so that checks get in between."""

POLL: Final = timedelta(seconds=30)
"""How often to look without being told: for a rotation that was ordered elsewhere."""

MOST_NAMED: Final = 1000
"""Seals that do not open and are named in answers. Beyond that they are in the log, and counted."""

_FAILURES = (SealBrokenError, ServiceKeyMissingError, PayloadInvalidError, SealUnprovenError)
_log = structlog.get_logger()
_Sealed = TypeVar("_Sealed", WrappedKey, SealedValue)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A seal that does not open: `what` of which account, and why."""

    account: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Ring:
    """The service keys and what they seal.

    Attributes:
        newest: the id that seals, by kind.
        live: the ids that are there, by kind.
        uses: what is sealed under which.
        rotation: the last one that was ordered; None when there never was one.
        waits: whether the rotation waits, as it was ordered for other keys than the newest ones.
        stuck: what did not open in the last round of this process, at most MOST_NAMED of them.
        free: ids of system and storage keys that are there, or were, and seal nothing any more.
    """

    newest: dict[str, str]
    live: dict[str, tuple[str, ...]]
    uses: tuple[SealUse, ...]
    rotation: Rotation | None
    waits: bool
    stuck: tuple[Stuck, ...]
    free: tuple[str, ...]

    @property
    def remaining(self) -> int:
        """How many seals are not under the newest keys, those that do not open included."""
        return sum(use.keys + use.values for use in self.uses if not _is_newest(use, self.newest))


class Resealer:
    """Holds no work: an order is in the store, and what is left of it is found by the ids beside each seal."""

    def __init__(self, store: Store, layers: Layers, sealer: Sealer, *, clock: Clock, metrics: Metrics) -> None:
        """Take the collaborators."""
        self._store = store
        self._layers = layers
        self._sealer = sealer
        self._clock = clock
        self._metrics = metrics
        self._bell = Bell()
        self._stuck: list[Stuck] = []
        self._told: int | None = None

    async def order(self) -> Ring:
        """Order a rotation to the newest keys and give how things are; it goes on by itself, through restarts too."""
        newest = self._newest()
        rotation = await self._store.begin_rotation(
            storage_key=newest[ServiceKey.STORAGE], system_key=newest[ServiceKey.SYSTEM], now=self._clock.now()
        )
        _log.info("rotation-ordered", number=rotation.number, storage=rotation.storage_key, system=rotation.system_key)
        self._bell.ring()
        return await self.ring()

    async def ring(self) -> Ring:
        """Tell how things are."""
        rotation, uses, newest = await self._store.rotation(), tuple(await self._store.seal_uses()), self._newest()
        live: dict[str, tuple[str, ...]] = {}
        for kind, key_id in self._sealer.fingerprints():
            live[kind] = (*live.get(kind, ()), key_id)
        used = {key for use in uses for key in keys_of(use)} | set(newest.items())
        sealing = (str(ServiceKey.SYSTEM), str(ServiceKey.STORAGE))
        free = tuple(f"{kind}.{one}" for kind in sealing for one in live[kind] if (kind, one) not in used)
        waits = rotation is not None and rotation.ended_at is None and not self._is_for_newest(rotation)
        return Ring(newest, live, uses, rotation, waits, tuple(self._stuck), free)

    async def run(self) -> None:
        """Carry out what is ordered, for ever."""
        while True:
            await self.carry_out()
            await self._bell.wait(POLL.total_seconds())

    async def carry_out(self) -> None:
        """Do what is ordered and not done yet, unless it was ordered for other keys than the newest ones."""
        rotation = await self._store.rotation()
        if rotation is None or rotation.ended_at is not None:
            return
        if self._is_for_newest(rotation):
            await self._rotate(rotation)
        elif self._told != rotation.number:
            # A key that was put there since may not have been backed up yet.
            self._told = rotation.number
            _log.warning(
                "rotation-waits", number=rotation.number, system=rotation.system_key, storage=rotation.storage_key
            )

    async def _rotate(self, rotation: Rotation) -> None:
        moved = 0
        while True:
            self._stuck = []
            stuck = round_moved = 0
            for use in await self._store.seal_uses():
                if not _is_newest(use, self._newest()):
                    for done, failed in (await self._keys(use), await self._values(use)):
                        round_moved += done
                        stuck += failed
            moved += round_moved
            # More can be left only when somebody still sealed with an older key meanwhile.
            if not round_moved or (await self.ring()).remaining <= stuck:
                break
        try:
            await self._store.end_rotation(rotation, stuck=stuck, now=self._clock.now())
        except StaleError:
            return  # another replica was as quick
        _log.info("rotation-ended", number=rotation.number, resealed=moved, stuck=stuck)

    async def _keys(self, use: SealUse) -> tuple[int, int]:
        return await self._through(lambda after: self._store.keys_sealed_by(use, after=after, limit=BATCH))

    async def _values(self, use: SealUse) -> tuple[int, int]:
        return await self._through(lambda after: self._store.values_sealed_by(use, after=after, limit=BATCH))

    async def _through(self, read: Callable[[_Sealed | None], Awaitable[Sequence[_Sealed]]]) -> tuple[int, int]:
        """Go through all pages; give how many seals were replaced, and how many do not open."""
        after: _Sealed | None = None
        done = failed = 0
        while page := await read(after):
            resealed, stuck = self._reseal(page)
            try:
                await self._store.commit_reseal(resealed)
            except StaleError:
                # One of them was rewrapped, written or deleted meanwhile: the rest still has to be done.
                await asyncio.sleep(0)
                continue
            done, failed = done + len(resealed), failed + len(stuck)
            self._note(len(resealed), stuck)
            after = page[-1]
        return done, failed

    def _reseal(self, page: Sequence[_Sealed]) -> tuple[list[Resealed], list[Stuck]]:
        resealed: list[Resealed] = []
        stuck: list[Stuck] = []
        for sealed in page:
            try:
                resealed.append(self._layers.resealed(sealed))
            except _FAILURES as error:
                stuck.append(Stuck(str(sealed.account), _what(sealed), str(error)))
        return resealed, stuck

    def _note(self, done: int, stuck: Sequence[Stuck]) -> None:
        self._metrics.reseals.labels("done").inc(done)
        self._metrics.reseals.labels("failed").inc(len(stuck))
        for one in stuck:
            _log.warning("reseal-failed", account=one.account, what=one.what, why=one.why)
        self._stuck += stuck[: MOST_NAMED - len(self._stuck)]

    def _newest(self) -> dict[str, str]:
        return {str(kind): self._sealer.newest(kind) for kind in ServiceKey}

    def _is_for_newest(self, rotation: Rotation) -> bool:
        newest = self._newest()
        return (rotation.storage_key, rotation.system_key) == (newest[ServiceKey.STORAGE], newest[ServiceKey.SYSTEM])


def _is_newest(use: SealUse, newest: dict[str, str]) -> bool:
    return use.storage_key == newest[ServiceKey.STORAGE] and use.system_key in {None, newest[ServiceKey.SYSTEM]}


def _what(sealed: WrappedKey | SealedValue) -> str:
    if isinstance(sealed, WrappedKey):
        return f"account key, generation {sealed.generation}"
    return f"protected value {sealed.kind}/{sealed.name}"
