"""Which watches there are, what each waits for, and the paces of their vaults."""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from byokd.domain.identifiers import IdentityName, TenantId, VaultHost, WatchId
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import DetectedBy
from byokd.ports import KeyTarget
from byokd.runtime.checker import Checked
from byokd.runtime.pace import Pace

_ABOUT: Final = 0.1
"""Share of `hint_spacing` by which a hint waits for the look that confirms a suspicion: just before it one would only
come too soon to count, and have the one that counts wait for its end."""

_Key = tuple[IdentityName, TenantId, VaultHost, str]


@dataclass(slots=True, eq=False)
class Entry:
    """A watch and what it waits for. Times are seconds of the monotonic clock.

    Attributes:
        due: when it is to be checked next.
        ticket: its place in the line; another one makes former places void.
        started: when the check that runs began; None while none does.
        charged: the paces that this check counts in.
        hinted: a hint waits to be followed.
        hinted_at: when the last check that followed a hint began.
        echo_at: when to look once more after a hint, for what takes a few seconds to reach all of a vault.
        roused_by: what made the last look happen that met no suspicion: if it raised one, the looks that weigh it too.
        askers: who waits for the outcome of the next check.
        outcome_unknown: whether its last commit may or may not have come about.
    """

    watch: Watch
    due: float
    ticket: int = 0
    started: float | None = None
    charged: tuple[Pace, ...] = ()
    hinted: bool = False
    hinted_at: float = -math.inf
    echo_at: float | None = None
    roused_by: DetectedBy = DetectedBy.POLL
    askers: list[asyncio.Future[Checked | None]] = field(default_factory=list)
    outcome_unknown: bool = False

    @property
    def suspected(self) -> bool:
        """Whether a denial of it awaits confirmation."""
        return is_suspected(self.watch)

    def next_due(self, due: float, *, now: float, hint_spacing: float) -> float:
        """Give when to check it: at `due`, or sooner for those who ask, a hint or the echo of one."""
        if self.askers:
            return min(due, now)
        if self.hinted:
            at = max(now, self.hinted_at + hint_spacing)
            return due if self.suspected and due - at < _ABOUT * hint_spacing else min(due, at)
        # The look that confirms a suspicion is an echo too; a little earlier it would only come too soon to count.
        return due if self.echo_at is None or self.suspected else min(due, max(now, self.echo_at))

    def begin(self, now: float, *, hint_spacing: float) -> DetectedBy:
        """Begin a check: it follows the hint, or is its echo; give what made it happen."""
        self.started = now
        followed, self.hinted = self.hinted, False
        echoed = self.echo_at is not None and now >= self.echo_at
        if followed:
            self.hinted_at, self.echo_at = now, now + hint_spacing
        elif echoed:
            self.echo_at = None
        by = DetectedBy.HINT if followed or echoed else DetectedBy.POLL
        if self.askers:
            by = DetectedBy.OPERATOR
        if not self.suspected:
            self.roused_by = by
        elif by is DetectedBy.POLL and self.roused_by is DetectedBy.HINT:
            return DetectedBy.HINT
        return by

    def dismiss(self) -> None:
        """Tell who waits for a check that there will be none."""
        askers, self.askers = self.askers, []
        answer(askers, None)


def answer(askers: Iterable["asyncio.Future[Checked | None]"], checked: Checked | None) -> None:
    """Tell those who still wait what a check found; None: there was none."""
    for asker in askers:
        if not asker.done():
            asker.set_result(checked)


def is_suspected(watch: Watch) -> bool:
    """Whether a denial of one of its versions awaits confirmation; one that the brake holds does not."""
    suspicions = [version.verdict.suspicion for version in watch.versions]
    return any(suspicion is not None and suspicion.held_since is None for suspicion in suspicions)


class Roster:
    """The watches by id and by key, and one pace per vault, which goes with the last watch of it."""

    def __init__(self, make_pace: Callable[[], Pace]) -> None:
        """Take what makes the pace of a vault that is new."""
        self._make_pace = make_pace
        self.is_read = False
        """Whether it tells who is watched: it was read from the store, or taken over from one that was."""
        self._entries: dict[WatchId, Entry] = {}
        self._of_key: dict[_Key, set[WatchId]] = {}
        self._of_name: dict[tuple[VaultHost, str], set[WatchId]] = {}
        self._paces: dict[VaultHost, tuple[Pace, set[WatchId]]] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, entry: Entry) -> bool:
        return self._entries.get(entry.watch.id) is entry

    @property
    def ids(self) -> AbstractSet[WatchId]:
        """Which watches there are."""
        return self._entries.keys()

    @property
    def hosts(self) -> AbstractSet[VaultHost]:
        """Which vaults they are in."""
        return self._paces.keys()

    def get(self, watch: WatchId) -> Entry | None:
        """Give the entry of a watch."""
        return self._entries.get(watch)

    def pace(self, host: VaultHost) -> Pace | None:
        """Give the pace of a vault; None when nothing in it is watched any more."""
        found = self._paces.get(host)
        return None if found is None else found[0]

    def of_version(self, target: KeyTarget) -> list[Entry]:
        """Give the entries with this exact version: more than one if it is also pinned."""
        near = self._of_key.get((target.identity, target.tenant, target.key.host, target.key.name), ())
        return [
            entry
            for entry in map(self._entries.__getitem__, sorted(near))
            if any(entry.watch.key.at(version.version) == target.key for version in entry.watch.versions)
        ]

    def of_vault(self, host: VaultHost, *, key: str | None) -> list[WatchId]:
        """Name the watches of a vault, or of one key of it by its name in lower case, whoever's they are."""
        if key is not None:
            return sorted(self._of_name.get((host, key), ()))
        return sorted(self._paces[host][1]) if host in self._paces else []

    def add(self, watch: Watch) -> Entry:
        """Take in a watch that is new."""
        entry = self._entries[watch.id] = Entry(watch, math.inf)
        self._of_key.setdefault(_key(watch), set()).add(watch.id)
        self._of_name.setdefault(_name(watch), set()).add(watch.id)
        host = watch.key.host
        if host not in self._paces:
            self._paces[host] = self._make_pace(), set()
        self._paces[host][1].add(watch.id)
        return entry

    def inherit(self, before: "Roster") -> None:
        """Take over another one's watches, with what is still to be followed of hints at them; none has a place."""
        self.is_read = before.is_read
        for known in before:
            entry = self.add(known.watch)
            entry.due = known.due
            entry.hinted, entry.hinted_at, entry.echo_at = known.hinted, known.hinted_at, known.echo_at
            entry.roused_by = known.roused_by

    def drop(self, watch: WatchId) -> Entry | None:
        """Forget a watch, and with the last ones all that was kept for its key and its vault."""
        entry = self._entries.pop(watch, None)
        if entry is None:
            return None
        of_key, (_, of_vault) = self._of_key[_key(entry.watch)], self._paces[entry.watch.key.host]
        of_name = self._of_name[_name(entry.watch)]
        for known in (of_key, of_name, of_vault):
            known.discard(watch)
        if not of_key:
            del self._of_key[_key(entry.watch)]
        if not of_name:
            del self._of_name[_name(entry.watch)]
        if not of_vault:
            del self._paces[entry.watch.key.host]
        return entry


def _name(watch: Watch) -> tuple[VaultHost, str]:
    return watch.key.host, watch.key.name.lower()


def _key(watch: Watch) -> _Key:
    return watch.identity, watch.tenant, watch.key.host, watch.key.name
