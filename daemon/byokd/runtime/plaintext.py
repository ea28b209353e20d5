"""The one place that holds account keys in the clear: few, for minutes, and never past a denial.

The gate reads the wrapping version's verdict, not the account's own row: one commit closes it for all its accounts.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import structlog

from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import Outcome
from byokd.ports import Clock, KeyTarget, Store
from byokd.records import Gate
from byokd.runtime.doubts import Doubts
from byokd.runtime.metrics import Drop, Metrics, Opening
from byokd.runtime.unusable import UnavailableError, damaged, denied, unknown
from byokd.runtime.unwrapping import LiveUnwraps, OpenedKey, Place
from byokd.runtime.waking import Bell
from byokd.settings import ValueSettings

STORE_PATIENCE_SECONDS: Final = 2.0
"""Who has not heard from the store for this long does not know what was committed meanwhile, and refuses."""

TRIES: Final = 3
"""How often to unwrap for one use when denials keep coming between; then it cannot be used now."""

_log = structlog.get_logger()


class PlaintextKeys:
    """Opens account keys for use, and holds some of them for a while.

    A use is: `gate`, `open`, the work itself, and `confirm` before its result leaves. What is held is used only while
    it is young and its version is in no doubt; in doubt, every use unwraps, and nothing is kept.
    """

    def __init__(
        self,
        store: Store,
        unwraps: LiveUnwraps,
        doubts: Doubts,
        *,
        clock: Clock,
        settings: ValueSettings,
        metrics: Metrics,
    ) -> None:
        """Take the collaborators; what is held of a version goes as soon as `doubts` hears of a denial."""
        self._store = store
        self._unwraps = unwraps
        self._doubts = doubts
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._held: OrderedDict[AccountId, OpenedKey] = OrderedDict()
        self._of_target: dict[KeyTarget | None, set[AccountId]] = {}
        self._bell = Bell()
        doubts.on_denial(self._drop_denied)

    def __len__(self) -> int:
        """Give how many are held."""
        return len(self._held)

    async def run(self) -> None:
        """Drop what becomes too old, for ever; and everything at the end, as nobody would then."""
        try:
            while True:
                self._drop([account for account, held in self._held.items() if self._is_old(held)], Drop.EXPIRED)
                await self._bell.wait(min(map(self._seconds_left, self._held.values()), default=None))
        finally:
            self._drop(tuple(self._held), Drop.REPLACED)

    async def gate(self, account: AccountId) -> Gate:
        """Read what the store says now; whoever gets a gate may go on.

        Raises:
            AccountUnknownError: there is no such account.
            InaccessibleError: a denial of its wrapping version is committed.
            AccountDamagedError: its own record is known not to open.
            UnavailableError: the store did not answer in time.
            StoreUnavailableError: the store cannot be used.
        """
        try:
            async with asyncio.timeout(STORE_PATIENCE_SECONDS):
                gate = await self._store.gate(account)
        except TimeoutError:
            hint = "look at the disk and load of the database; try again"
            raise UnavailableError("the database did not answer in time", hint=hint) from None
        if gate is None:
            self._drop([account], Drop.REPLACED)
            raise unknown(account)
        standing, target = gate.standing, Place.of(gate).target
        if standing is not None and target is not None:
            if gate.is_suspected or standing.outcome is Outcome.DENIED:
                self._drop_denied(target)
            if standing.outcome is Outcome.DENIED:
                raise denied(standing)
        if gate.account.damage is not None:
            self._drop([account], Drop.DAMAGED)
            raise damaged(gate.account.damage)
        return gate

    async def open(self, gate: Gate) -> OpenedKey:
        """Give the account key behind a gate: what is held where that may be used, else by a live unwrap.

        Raises:
            InaccessibleError, UnavailableError, RecordDamagedError: as `LiveUnwraps.open`.
        """
        place, keeps = Place.of(gate), self._keeps(gate)
        held = self._held.get(place.account)
        if held is not None and keeps and held.place == place and self.is_good(held):
            self._held.move_to_end(place.account)
            self._metrics.account_key_opens.labels(Opening.HELD).inc()
            return held
        self._drop([place.account], Drop.REPLACED)
        for _ in range(TRIES):
            opened = await self._unwraps.open(gate)
            if opened is not None and self.is_good(opened):
                if self._keeps(gate):
                    self._keep(opened)
                return opened
        raise UnavailableError("every unwrap was broken off or followed by a denial", hint="try again in a minute")

    async def confirm(self, gate: Gate, opened: OpenedKey) -> bool:
        """Tell whether what was made with a key may leave, as the very last thing; if not, begin again.

        Raises:
            AccountUnknownError, InaccessibleError, UnavailableError, StoreUnavailableError: as `gate`.
        """
        now = await self.gate(gate.account.id)
        # A suspicion of another process, which this one did not meet, is seen in the store alone.
        since = now.is_suspected and not gate.is_suspected
        return now.account.incarnation == gate.account.incarnation and not since and self.is_good(opened)

    def is_good(self, opened: OpenedKey) -> bool:
        """Whether an opened key may be used at this moment: young enough, and no denial since its unwrap began."""
        target = opened.place.target
        return not self._is_old(opened) and (target is None or not self._doubts.denied_since(target, opened.asked))

    def _keeps(self, gate: Gate) -> bool:
        """Whether what this gate leads to may be kept and, if it is held, be used without asking."""
        target = Place.of(gate).target
        return not gate.is_suspected and (target is None or not self._doubts.is_in_doubt(target))

    def _is_old(self, opened: OpenedKey) -> bool:
        return self._seconds_left(opened) <= 0

    def _seconds_left(self, opened: OpenedKey) -> float:
        # By both clocks: the monotonic one stands still while a machine sleeps, the other one may be set back.
        by_calendar = (self._clock.now() - opened.asked_at).total_seconds()
        age = max(self._clock.monotonic() - opened.asked, by_calendar)
        return self._settings.max_plaintext_age.total_seconds() - age

    def _keep(self, opened: OpenedKey) -> None:
        account = opened.place.account
        self._drop([account], Drop.REPLACED)
        while len(self._held) >= self._settings.most_plaintext:
            self._drop([next(iter(self._held))], Drop.BOUND)
        self._held[account] = opened
        self._of_target.setdefault(opened.place.target, set()).add(account)
        self._metrics.plaintext_held.set(len(self._held))
        self._bell.ring()

    def _drop_denied(self, target: KeyTarget) -> None:
        count = self._drop(tuple(self._of_target.get(target, ())), Drop.DENIED)
        if count:
            _log.warning("plaintext-dropped", key=str(target.key), count=count)

    def _drop(self, accounts: Iterable[AccountId], cause: Drop) -> int:
        """Drop what is held of these accounts; give how many were."""
        count = 0
        for account in accounts:
            held = self._held.pop(account, None)
            if held is None:
                continue
            count += 1
            others = self._of_target[held.place.target]
            others.discard(account)
            if not others:
                del self._of_target[held.place.target]
        if count:
            self._metrics.plaintext_drops.labels(cause).inc(count)
            self._metrics.plaintext_held.set(len(self._held))
        return count
