"""One look at a watch: what is asked of its vault, and in which order."""

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from byokd.domain.answers import (
    Evidence,
    FactsAnswer,
    KeyFacts,
    NoAnswer,
    ProbeAnswer,
    ProbeMismatched,
    ProbeOpened,
    Refused,
)
from byokd.domain.decide import CandidateAnswer, Look, candidate
from byokd.domain.identifiers import KeyIdentifier, WatchId, WrappingVersionId
from byokd.domain.judge import Seen
from byokd.domain.verdict import Watch, WrappingVersion
from byokd.domain.vocabulary import DetectedBy
from byokd.ports import Clock, KeyTarget, Randomness
from byokd.runtime.doubts import Doubts
from byokd.runtime.rounds import Round, prove
from byokd.runtime.seldom import Seldom
from byokd.runtime.sightings import Shortfall
from byokd.runtime.standing import Standing

NEWEST: Final = None
"""What GET tells of the key and, where that is a new version, its proof: one thing to look at, beside the versions."""

Item = WrappingVersionId | None
"""A version that is not the current one any more, or NEWEST."""

MOST_BEHIND: Final = 20_000
"""Watches of which is remembered what was left unread, some 300 bytes each; the one cut longest ago goes."""


class Turns:
    """What comes first in the next look at a watch: what the last one left unread. In memory, of cut looks alone.

    So everything has its turn on a vault that is too slow for all of it in one look: NEWEST in every other one, being
    one item while the versions may be many. What came first and had too little time even so goes last, or nothing
    else would ever be read.
    """

    def __init__(self) -> None:
        self._behind: OrderedDict[WatchId, tuple[Item, ...]] = OrderedDict()

    def order(self, watch: WatchId, items: tuple[Item, ...]) -> tuple[Item, ...]:
        """Give the items in the order in which to read them."""
        behind = self._behind.get(watch)
        if behind is None:
            return items
        left = tuple(item for item in behind if item in items)
        return left + tuple(item for item in items if item not in left)

    def note(self, watch: WatchId, order: tuple[Item, ...], *, unread: tuple[Item, ...]) -> None:
        """Remember what was left unread of what was to be read in this order."""
        self._behind.pop(watch, None)
        if unread and unread[0] == order[0]:
            self._behind[watch] = (*unread[1:], unread[0])
        elif unread:
            # Sorting is stable.
            self._behind[watch] = tuple(sorted(unread, key=lambda item: item is not NEWEST))
        if len(self._behind) > MOST_BEHIND:
            self._behind.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look saw, and how far it came."""

    look: Look
    shortfall: Shortfall | None


class Looker:
    """Looks at watches. It remembers only when it asked aside, and what the deadline left unread."""

    def __init__(self, clock: Clock, randomness: Randomness, *, doubts: Doubts, standing: Standing) -> None:
        """Take the collaborators; `doubts` hears of a refusal before anything else is asked."""
        self._clock = clock
        self._randomness = randomness
        self._doubts = doubts
        self._standing = standing
        self._seldom = Seldom(clock)
        self._turns = Turns()

    async def look(self, calls: Round, watch: Watch, detected_by: DetectedBy) -> Looked:
        """Ask a vault about a watch: the current version first, the others and the newest as long as there is time."""
        stood = self._standing.of(watch)
        asking = _Asking(calls, watch, self._clock, self._randomness, self._doubts)
        # On a slow vault the deadline must not always cut off the one that matters most.
        await asking.probe(watch.current_version)
        in_time = not calls.cut
        former = tuple(version.id for version in watch.versions if version.id != watch.current)
        order = self._turns.order(watch.id, (*former, NEWEST)) if asking.is_answered else (*former, NEWEST)
        unread = tuple([item for item in order if await asking.is_cut_at(item)])
        if in_time:
            self._turns.note(watch.id, order, unread=unread)
        look = Look(await asking.seen(), asking.newest, asking.proof, detected_by, stood=stood)
        if not asking.current_opens:
            return Looked(look, None)
        shortfall = _shortfall(look, len(unread), limited=calls.limited)
        return Looked(look if look.candidate is not None else await self._aside(calls, watch, look), shortfall)

    async def _aside(self, calls: Round, watch: Watch, look: Look) -> Look:
        """Ask, seldom, what only warnings need: of a pinned key the newest version, else the dates of the current one.

        The dates are told already while the current version is the newest.
        """
        current, pinned = watch.current_version.version, watch.key.version is not None
        superseded = isinstance(look.newest, KeyFacts) and look.newest.version != current
        if not (pinned or superseded) or not self._seldom.takes_turn(watch.id, detected_by=look.detected_by):
            return look
        if pinned:
            return replace(look, unpinned=await calls.get(target_of(watch, watch.key.unpinned)))
        facts = await calls.get(target_of(watch, watch.key.at(current)))
        seen = (replace(entry, facts=facts) if entry.version == current else entry for entry in look.seen)
        return replace(look, seen=tuple(seen))


class _Asking:
    """A look under way: what was asked, and the answers so far."""

    __slots__ = ("_calls", "_clock", "_doubts", "_facts", "_probes", "_randomness", "_watch", "newest", "proof")

    def __init__(self, calls: Round, watch: Watch, clock: Clock, randomness: Randomness, doubts: Doubts) -> None:
        self._calls = calls
        self._watch = watch
        self._clock = clock
        self._randomness = randomness
        self._doubts = doubts
        self._probes: dict[WrappingVersionId, ProbeAnswer] = {}
        self._facts: dict[WrappingVersionId, FactsAnswer | None] = {}
        self.newest: FactsAnswer | None = None
        self.proof: CandidateAnswer | None = None

    @property
    def is_answered(self) -> bool:
        """Whether a version's probe was answered."""
        return not all(isinstance(answer, NoAnswer) for answer in self._probes.values())

    @property
    def current_opens(self) -> bool:
        """Whether the current version opened its probe."""
        return isinstance(self._probes[self._watch.current], ProbeOpened)

    async def is_cut_at(self, item: Item) -> bool:
        """Read an item; tell whether the time was too short for it."""
        before = self._calls.cut
        if item is NEWEST:
            await self._read_newest()
        else:
            await self.probe(next(version for version in self._watch.versions if version.id == item))
        return self._calls.cut > before

    async def probe(self, version: WrappingVersion) -> None:
        """Let a version unwrap its probe."""
        self._probes[version.id] = await self._probe(self._calls, self._watch, version)

    async def seen(self) -> tuple[Seen, ...]:
        """Give what was seen of each version, after asking for what GET tells of those that were refused since."""
        await self._read_facts()
        now, probes, facts = self._clock.now(), self._probes, self._facts
        return tuple(
            Seen(version.version, probes[version.id], facts[version.id], self.newest, now)
            for version in sorted(self._watch.versions, key=lambda version: version.id != self._watch.current)
        )

    async def _read_newest(self) -> None:
        """Ask what is the newest version and, where it is a new one, let it prove itself."""
        calls, watch = self._calls, self._watch
        if not self.is_answered:
            return
        self.newest = await calls.get(target_of(watch, watch.key))
        found = candidate(watch, self.newest, now=self._clock.now())
        await self._read_facts()
        if self.current_opens and found is not None:
            self.proof = await prove(calls, target_of(watch, watch.key.at(found.version)), self._randomness)

    async def _read_facts(self) -> None:
        for version in self._watch.versions:
            probe = self._probes.get(version.id)
            if probe is not None and version.id not in self._facts:
                self._facts[version.id] = await self._facts_of(version, probe)

    async def _probe(self, calls: Round, watch: Watch, version: WrappingVersion) -> ProbeAnswer:
        target = target_of(watch, watch.key.at(version.version))
        answer = await calls.unwrap(target, version.probe.wrapped)
        if isinstance(answer, NoAnswer):
            return answer
        if isinstance(answer, bytes) and hmac.compare_digest(hashlib.sha256(answer).digest(), version.probe.digest):
            return ProbeOpened()
        # Before anything else is asked, decided or stored: none of that must be waited for, and all of it may fail.
        self._doubts.deny(target)
        if isinstance(answer, Refused):
            return answer
        return ProbeMismatched(Evidence("unwrapKey", status=200))

    async def _facts_of(self, version: WrappingVersion, probe: ProbeAnswer) -> FactsAnswer | None:
        """Give what GET tells of this version; another call only where the newest is another and unwrap was refused."""
        watch, newest = self._watch, self.newest
        if watch.key.version is not None or (isinstance(newest, KeyFacts) and newest.version == version.version):
            return newest
        if isinstance(newest, KeyFacts) and isinstance(probe, Refused):
            return await self._calls.get(target_of(watch, watch.key.at(version.version)))
        return None


def target_of(watch: Watch, key: KeyIdentifier) -> KeyTarget:
    """Give a key as it is reached for a watch."""
    return KeyTarget(watch.identity, watch.tenant, key)


def _shortfall(look: Look, unread: int, *, limited: bool) -> Shortfall | None:
    """Say how far a look came; None when there was nothing that it could not read."""
    silent = next((answer for answer in (look.candidate, look.newest) if isinstance(answer, NoAnswer)), None)
    if silent is None and not unread:
        return None
    return Shortfall(unread, len(look.seen) + 1, None if silent is None else silent.reason, limited)
