"""The last looks at each watch, in memory: healthy looks write nothing to the store, and yet somebody may ask."""

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from byokd.domain.answers import Evidence, FactsAnswer, KeyFacts, ProbeOpened
from byokd.domain.decide import Look
from byokd.domain.identifiers import KeyVersion, WatchId
from byokd.domain.judge import GET_NEWEST, Seen, judge
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason

LOOKS: Final = 4
"""Kept of each watch: a denial and its confirmation, with the looks before and after."""

MOST_WATCHES: Final = 20_000
"""Of which looks are kept. A healthy look takes 260 bytes, so this is 21 MB; the watch looked at longest ago goes."""

OK: Final = 200


@dataclass(frozen=True, slots=True)
class Sighted:
    """What a look saw of one wrapping version, with the answers that it rests on."""

    version: KeyVersion
    outcome: Outcome
    reason: Reason | None
    message: str
    answers: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a look whose current version opened did not come to.

    Attributes:
        unread: of so many things the time was too short.
        of: so many there were to read: the versions in use, and the newest with its proof.
        newest: why it is not known which version is the newest, or why that did not prove itself; None when it is.
        limited: whether our own limit on calls had a part in it.
    """

    unread: int
    of: int
    newest: Reason | None
    limited: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at a watch.

    Attributes:
        at: when it ended.
        on_new_connection: whether its calls went over connections of their own, as confirmations do.
        newest: the version that GET named as the newest; None when it did not tell.
        seen: of each wrapping version.
        shortfall: what it did not come to; None when it came to all.
    """

    at: datetime
    detected_by: DetectedBy
    on_new_connection: bool
    newest: KeyVersion | None
    seen: tuple[Sighted, ...]
    shortfall: Shortfall | None = None


class Sightings:
    """Keeps the last LOOKS looks at each of MOST_WATCHES watches. They are gone with the process."""

    def __init__(self, *, most: int = MOST_WATCHES) -> None:
        """Begin with nothing; `most` watches are remembered."""
        self._most = most
        self._looks: OrderedDict[WatchId, tuple[Sighting, ...]] = OrderedDict()

    def note(
        self,
        watch: WatchId,
        look: Look,
        *,
        now: datetime,
        on_new_connection: bool,
        shortfall: Shortfall | None = None,
    ) -> None:
        """Remember a look."""
        before = self._looks.pop(watch, ())
        seen = tuple(_sighted(one) for one in look.seen)
        if before and before[-1].seen == seen:
            seen = before[-1].seen
        newest = look.newest.version if isinstance(look.newest, KeyFacts) else None
        sighting = Sighting(now, look.detected_by, on_new_connection, newest, seen, shortfall)
        self._looks[watch] = (*before[1 - LOOKS :], sighting)
        if len(self._looks) > self._most:
            self._looks.popitem(last=False)

    def of(self, watch: WatchId) -> tuple[Sighting, ...]:
        """Give what is remembered of a watch, the latest last."""
        return self._looks.get(watch, ())


def _sighted(seen: Seen) -> Sighted:
    observation = judge(seen)
    probe = Evidence("unwrapKey", OK) if isinstance(seen.probe, ProbeOpened) else seen.probe.evidence
    answers, usable = [probe], observation.outcome is Outcome.USABLE
    if seen.facts is not None:
        answers.append(_told(seen.facts, usable=usable))
    if seen.key is not None and seen.key is not seen.facts:
        answers.append(replace(_told(seen.key, usable=usable), operation=GET_NEWEST))
    return Sighted(seen.version, observation.outcome, observation.reason, observation.message, tuple(answers))


def _told(answer: FactsAnswer, *, usable: bool) -> Evidence:
    return Evidence("get", OK) if usable and isinstance(answer, KeyFacts) else answer.evidence
