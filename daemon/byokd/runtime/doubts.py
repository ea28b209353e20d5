"""Which key versions a vault has denied since they were last found usable: what no plaintext may outlive.

Told the moment a vault refuses to unwrap, by whoever met it: before anything is decided, stored or confirmed.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.ports import Clock, KeyService, KeyTarget

MOST = 100_000
"""Denied versions known at once, about 40 MB. Beyond them every version counts as denied, until a restart."""


class Doubts:
    """The doubts, one per exact key version and identity. Times are seconds of the monotonic clock."""

    def __init__(self, clock: Clock, *, memory: timedelta) -> None:
        """Take the clock; `memory` is how long an unwrap can matter after it was begun."""
        self._clock = clock
        self._memory = memory.total_seconds()
        self._denied_at: dict[KeyTarget, float] = {}
        self._in_doubt: set[KeyTarget] = set()
        self._swept_at = clock.monotonic()
        self._overflowed_at: float | None = None
        self._droppers: list[Callable[[KeyTarget], None]] = []
        self._checkers: list[Callable[[KeyTarget], None]] = []

    def on_denial(self, drop: Callable[[KeyTarget], None]) -> None:
        """Have a function called with every denied version, before whoever met the denial goes on."""
        self._droppers.append(drop)

    def on_report(self, check: Callable[[KeyTarget], None]) -> None:
        """Have a function called with a version that has to be checked."""
        self._checkers.append(check)

    def bequeath(self, heir: "Doubts") -> None:
        """Tell everything to those of the service that succeeds this one's: a reload ends no doubt."""
        heir.learn(self._denied_at, self._in_doubt, overflowed_at=self._overflowed_at)

    def learn(
        self, denied_at: Mapping[KeyTarget, float], in_doubt: Iterable[KeyTarget], *, overflowed_at: float | None
    ) -> None:
        """Add what another one knows."""
        for target, at in denied_at.items():
            self._denied_at[target] = max(at, self._denied_at.get(target, at))
        self._in_doubt.update(in_doubt)
        if overflowed_at is not None:
            self._overflowed_at = max(overflowed_at, self._overflowed_at or overflowed_at)

    def report(self, target: KeyTarget) -> None:
        """As `deny`, by somebody who is no check. Only the report that begins the doubt asks for one."""
        news = not self.is_in_doubt(target)
        self.deny(target)
        if news:
            self.ask(target)

    def ask(self, target: KeyTarget) -> None:
        """Ask for a check of a version that the vault did not let us use, whatever that may mean."""
        for check in self._checkers:
            check(target)

    def deny(self, target: KeyTarget) -> None:
        """Note that a check saw the vault deny this version now."""
        if target in self._denied_at or len(self._denied_at) < MOST:
            self._denied_at[target] = self._clock.monotonic()
            self._in_doubt.add(target)
        else:
            self._overflowed_at = self._clock.monotonic()
        for drop in self._droppers:
            drop(target)

    def clear(self, target: KeyTarget, *, asked: float) -> None:
        """Note that a check that began at `asked` found the version usable; a later denial stands."""
        if target in self._in_doubt and self._denied_at[target] < asked:
            self._in_doubt.discard(target)
            self._forget_old()

    def is_in_doubt(self, target: KeyTarget) -> bool:
        """Whether the version was denied, and no check found it usable since."""
        return target in self._in_doubt or self._overflowed_at is not None

    def denied_since(self, target: KeyTarget, asked: float) -> bool:
        """Whether there was a denial since `asked`, be it in doubt still or not: an unwrap of then proves nothing."""
        overflowed = self._overflowed_at is not None and self._overflowed_at >= asked
        return overflowed or self._denied_at.get(target, -1.0) >= asked

    def _forget_old(self) -> None:
        """Forget what can matter to no unwrap any more; seldom, as all is looked at and many may recover at once."""
        now = self._clock.monotonic()
        if now - self._swept_at < self._memory:
            return
        self._swept_at, before = now, now - self._memory
        gone = [target for target, at in self._denied_at.items() if at < before and target not in self._in_doubt]
        for target in gone:
            del self._denied_at[target]


class DoubtingKeys:
    """A key service that tells of every refusal; see the port."""

    def __init__(self, keys: KeyService, doubts: Doubts) -> None:
        self._keys = keys
        self._doubts = doubts

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        """See `KeyService.get`. What it refuses denies nothing: unwrap alone decides."""
        return await self._keys.get(target)

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        """See `KeyService.wrap`. What it refuses denies nothing either, but a check has to see why."""
        answer = await self._keys.wrap(target, plaintext)
        if isinstance(answer, Refused):
            self._doubts.ask(target)
        return answer

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        """See `KeyService.unwrap`."""
        answer = await self._keys.unwrap(target, wrapped)
        if isinstance(answer, Refused):
            self._doubts.report(target)
        return answer
