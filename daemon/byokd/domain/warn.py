"""What is amiss with a watch whose accounts nevertheless live: an ordered tuple of small rules over one look.

Each rule gives its warnings as they are after the look: those that it sees now, and of those that stood before the ones
that this look could tell nothing of. No warning ever changes a verdict.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from byokd.domain.answers import FactsAnswer, KeyFacts, NoAnswer, ProbeOpened, Refused
from byokd.domain.judge import Seen
from byokd.domain.verdict import Probe, Watch, WatchWarning
from byokd.domain.vocabulary import EventType, RefusalKind, WarningKind

EVENTS: Mapping[WarningKind, EventType] = {
    WarningKind.NEWEST_VERSION_UNUSABLE: EventType.KEY_NEWEST_VERSION_UNUSABLE,
    WarningKind.WRAP_NOT_PERMITTED: EventType.KEY_WRAP_NOT_PERMITTED,
    WarningKind.PURGE_PROTECTION_OFF: EventType.KEY_PURGE_PROTECTION_OFF,
    WarningKind.SOFT_DELETE_OFF: EventType.KEY_SOFT_DELETE_OFF,
    WarningKind.VAULT_ELSEWHERE: EventType.KEY_VAULT_ELSEWHERE,
    WarningKind.KEY_EXPIRED: EventType.KEY_EXPIRED,
    WarningKind.NEAR_EXPIRY: EventType.KEY_NEAR_EXPIRY,
}
"""What is published when a warning begins. The others are shown wherever the watch and its accounts are."""

PURGEABLE = "purge protection is off: a deleted key can be purged at once, and with it all that it wrapped"


@dataclass(frozen=True, slots=True)
class Sight:
    """All that the rules look at.

    Attributes:
        watch: the stored facts before the check, with the warnings that stood then.
        seen: one entry per wrapping version.
        newest: what GET told of the key identifier; None when it was not asked.
        candidate: what proving `newest` gave; None when it is no candidate.
        unpinned: what GET told of the key without its version; None when it was not asked, as mostly.
        now: when (UTC).
        near_expiry: how long before its expiry date a version is near it.
    """

    watch: Watch
    seen: tuple[Seen, ...]
    newest: FactsAnswer | None
    candidate: Probe | Refused | NoAnswer | None
    unpinned: FactsAnswer | None
    now: datetime
    near_expiry: timedelta

    def before(self, kind: WarningKind) -> tuple[WatchWarning, ...]:
        """Give the warnings of a kind that stood before."""
        return tuple(warning for warning in self.watch.warnings if warning.kind is kind)


Rule = Callable[[Sight], Iterable[WatchWarning]]


def newest_version_unusable(sight: Sight) -> Iterable[WatchWarning]:
    """The newest version cannot wrap, by its attributes or by the vault's refusal, so account keys stay where they are.

    A stale vault may show a version from before the current one: that says nothing of the newest.
    """
    newest, before = sight.newest, sight.before(WarningKind.NEWEST_VERSION_UNUSABLE)
    if sight.watch.key.version is not None:
        return ()
    if not isinstance(newest, KeyFacts):
        return before
    if not sight.watch.is_newer(newest):
        return () if newest.version == sight.watch.current_version.version else before
    unfit = newest.unfit_for_wrapping(sight.now)
    if isinstance(sight.candidate, Refused):
        unfit = f"the vault refuses to wrap with the newest version: {sight.candidate.kind}"
    if unfit is not None:
        return (WatchWarning(WarningKind.NEWEST_VERSION_UNUSABLE, newest.version, unfit),)
    if isinstance(sight.candidate, Probe):
        return ()
    return (warning for warning in before if warning.version == newest.version)


def new_versions_unseen(sight: Sight) -> Iterable[WatchWarning]:
    """GET is refused while a version lives; when none does, the denial says all."""
    if sight.watch.key.version is not None:
        return ()
    if sight.newest is None or isinstance(sight.newest, NoAnswer):
        return sight.before(WarningKind.NEW_VERSIONS_UNSEEN)
    lives = any(isinstance(seen.probe, ProbeOpened) for seen in sight.seen)
    if isinstance(sight.newest, Refused) and lives:
        if sight.newest.kind is RefusalKind.NOT_FOUND:
            return sight.before(WarningKind.NEW_VERSIONS_UNSEEN)  # it unwraps, so it is there: a stale read
        message = "GET is refused: new versions go unseen"
        return (WatchWarning(WarningKind.NEW_VERSIONS_UNSEEN, None, message),)
    return ()


def pinned_version_superseded(sight: Sight) -> Iterable[WatchWarning]:
    """The key identifier names a version, and there is a newer one that is fit. A pinned key is never moved."""
    if sight.watch.key.version is None:
        return ()
    if not isinstance(sight.unpinned, KeyFacts):
        return sight.before(WarningKind.PINNED_VERSION_SUPERSEDED)
    if not sight.watch.is_newer(sight.unpinned) or sight.unpinned.unfit_for_wrapping(sight.now) is not None:
        return ()
    message = "the key identifier names a version, and there is a newer one; it is not moved to by itself"
    return (WatchWarning(WarningKind.PINNED_VERSION_SUPERSEDED, sight.unpinned.version, message),)


def key_expired(sight: Sight) -> Iterable[WatchWarning]:
    """A version that still unwraps is past its expiry date: it can wrap nothing new."""

    def told(facts: KeyFacts) -> WatchWarning | None:
        if facts.expires is None or sight.now < facts.expires:
            return None
        message = f"expired at {_written(facts.expires)}; it still unwraps, but cannot wrap"
        return WatchWarning(WarningKind.KEY_EXPIRED, facts.version, message)

    return _of_versions(sight, WarningKind.KEY_EXPIRED, told)


def key_not_yet_valid(sight: Sight) -> Iterable[WatchWarning]:
    """The activation date of a version that unwraps is still to come: it can wrap nothing new."""

    def told(facts: KeyFacts) -> WatchWarning | None:
        expired = facts.expires is not None and facts.expires <= sight.now
        if expired or facts.not_before is None or facts.not_before <= sight.now:
            return None
        message = f"not valid before {_written(facts.not_before)}; it still unwraps, but cannot wrap"
        return WatchWarning(WarningKind.KEY_NOT_YET_VALID, facts.version, message)

    return _of_versions(sight, WarningKind.KEY_NOT_YET_VALID, told)


def near_expiry(sight: Sight) -> Iterable[WatchWarning]:
    """A wrapping version will soon expire. Another date is another warning; a date that has passed is none."""

    def told(facts: KeyFacts) -> WatchWarning | None:
        if facts.expires is None or facts.expires > sight.now + sight.near_expiry:
            return None
        message = f"expires at {_written(facts.expires)}; from then on it may no longer unwrap, and cannot wrap"
        return WatchWarning(WarningKind.NEAR_EXPIRY, facts.version, message, facts.expires)

    found = _of_versions(sight, WarningKind.NEAR_EXPIRY, told)
    return (warning for warning in found if warning.date is not None and sight.now < warning.date)


def wrap_not_permitted(sight: Sight) -> Iterable[WatchWarning]:
    """The current version still unwraps, but its operations no longer have wrapKey: no account can come to it."""
    current = sight.watch.current_version.version

    def told(facts: KeyFacts) -> WatchWarning | None:
        if facts.version != current or "wrapKey" in facts.operations:
            return None
        message = "the key operations lack wrapKey; it still unwraps, but cannot wrap"
        return WatchWarning(WarningKind.WRAP_NOT_PERMITTED, facts.version, message)

    return _of_versions(sight, WarningKind.WRAP_NOT_PERMITTED, told)


def purge_protection_off(sight: Sight) -> Iterable[WatchWarning]:
    """Whoever may purge in the vault can destroy the key for good, and everything that it wrapped."""
    answers = (sight.newest, *(seen.facts for seen in sight.seen), sight.unpinned)
    facts = next((answer for answer in answers if isinstance(answer, KeyFacts)), None)
    if facts is None:
        return sight.before(WarningKind.PURGE_PROTECTION_OFF)
    warning = of_purging(facts)
    return () if warning is None else (warning,)


def soft_delete_off(sight: Sight) -> Iterable[WatchWarning]:
    """Only ARM tells (`requirements.py`); a look at the key keeps it."""
    return sight.before(WarningKind.SOFT_DELETE_OFF)


def vault_elsewhere(sight: Sight) -> Iterable[WatchWarning]:
    """As `soft_delete_off`."""
    return sight.before(WarningKind.VAULT_ELSEWHERE)


RULES: tuple[Rule, ...] = (
    newest_version_unusable,
    new_versions_unseen,
    pinned_version_superseded,
    key_expired,
    key_not_yet_valid,
    near_expiry,
    wrap_not_permitted,
    purge_protection_off,
    soft_delete_off,
    vault_elsewhere,
)
"""One rule per kind of warning, in the order in which warnings are shown."""


def warnings(sight: Sight) -> tuple[WatchWarning, ...]:
    """Give what is amiss now. What this look could not tell stays as it was."""
    return tuple(warning for rule in RULES for warning in rule(sight))


def news(before: Iterable[WatchWarning], after: Iterable[WatchWarning]) -> Iterator[tuple[EventType, WatchWarning]]:
    """Give the warnings that begin and are to be published, each with its event."""
    known = {(warning.kind, warning.version, warning.date) for warning in before}
    for warning in after:
        if warning.kind in EVENTS and (warning.kind, warning.version, warning.date) not in known:
            yield EVENTS[warning.kind], warning


def of_purging(facts: KeyFacts) -> WatchWarning | None:
    """Warn unless the vault says that deleted keys cannot be purged before their time: `recoveryLevel` tells."""
    if facts.recovery_level is None:
        message = "the vault does not say whether purge protection is on"
    elif "Purgeable" in facts.recovery_level:
        message = PURGEABLE
    else:
        return None
    return WatchWarning(WarningKind.PURGE_PROTECTION_OFF, None, message)


def _of_versions(
    sight: Sight, kind: WarningKind, told: Callable[[KeyFacts], WatchWarning | None]
) -> Iterator[WatchWarning]:
    """Give what is told of each wrapping version that opens; of one that was not looked at, what stood before."""
    for seen in sight.seen:
        if not (isinstance(seen.probe, ProbeOpened) and isinstance(seen.facts, KeyFacts)):
            yield from (warning for warning in sight.before(kind) if warning.version == seen.version)
        elif (warning := told(seen.facts)) is not None:
            yield warning


def _written(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
