"""Why an account is as it is, since when, by what evidence, what comes next, and what mends it.

Everything comes from the store and from memory: a vault that does not answer is not waited for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from byokd.domain.accounts import Account
from byokd.domain.brake import BrakeMode, EngagedBy, Engagement
from byokd.domain.identifiers import AccountId, KeyIdentifier, KeyVersion, WatchId
from byokd.domain.verdict import Policy, Watch, WrappingVersion
from byokd.domain.vocabulary import Outcome
from byokd.domain.weigh import confirm_after, steadiness
from byokd.ports import Clock, Store
from byokd.records import Dossier
from byokd.runtime.advising import Advice, Adviser, about_brake
from byokd.runtime.bearings import Bearing, Situation, bearing
from byokd.runtime.conditions import WELL, Condition, VersionStanding, condition_of
from byokd.runtime.sightings import Shortfall, Sighting, Sightings
from byokd.settings import Settings

EVENTS: Final = 8
"""Of the history, the last ones."""


@dataclass(frozen=True, slots=True)
class Keep:
    """A version that is not the newest and still needed: not to be disabled until `byokd.key.version-retired` of it."""

    identifier: KeyIdentifier
    newer: KeyIdentifier
    wraps_account: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it.

    Attributes:
        bearing: what the condition means.
        brake: why it is engaged, where that concerns the account; else None.
        unadopted: why the newest version is not adopted yet, where looks did not come to it; else None.
        last_look: when the watch was last looked at; None when it was not since the start. No store knows: a look that
            found nothing new writes nothing.
        next_look: when it is next looked at; in the past while it waits for its turn.
        rewrap_waits_for: why the account key is still to be moved; None when it is not.
    """

    dossier: Dossier
    condition: Condition
    bearing: Bearing
    brake: Engagement | None
    versions: tuple[VersionStanding, ...]
    newest: KeyIdentifier | None
    unadopted: str | None
    last_look: datetime | None
    next_look: datetime | None
    rewrap_waits_for: str | None
    advice: tuple[Advice, ...]
    keep: tuple[Keep, ...]

    @property
    def is_bad(self) -> bool:
        """Whether the account key is refused, or does not open."""
        return self.condition not in WELL


class Explainer:
    """Explains accounts."""

    def __init__(
        self,
        store: Store,
        sightings: Sightings,
        next_look: Callable[[WatchId], datetime | None],
        *,
        clock: Clock,
        policy: Policy,
        settings: Settings,
    ) -> None:
        """Take the collaborators; `next_look` tells when a watch is looked at next."""
        self._store = store
        self._sightings = sightings
        self._next_look = next_look
        self._clock = clock
        self._policy = policy
        self._settings = settings
        self._mode = BrakeMode(settings.brake.mode)
        self._adviser = Adviser(settings.identities, clock)

    async def explain(self, account: AccountId) -> Explanation | None:
        """Explain an account as it is now; None when there is none.

        Raises:
            StoreUnavailableError: it cannot be read.
        """
        dossier = await self._store.dossier(account, most=EVENTS)
        if dossier is None:
            return None
        if dossier.watch is not None:
            return self._of_watch(dossier, dossier.watch)
        condition = condition_of(dossier.account, None)
        meant = bearing(condition, self._situation(dossier, None, None))
        return Explanation(dossier, condition, meant, None, (), None, None, None, None, None, (), ())

    def _of_watch(self, dossier: Dossier, watch: Watch) -> Explanation:
        looks = self._sightings.of(watch.id)
        versions = tuple(self._standing(dossier.account, watch, version, looks) for version in watch.versions)
        own = next((one for one in versions if one.wraps_account), None)
        newest = _newest(watch, looks)
        condition = condition_of(dossier.account, own)
        next_look = self._next_look(watch.id) or watch.due_at
        engagement = dossier.brake.engagement
        if engagement is not None and not self._concerns(engagement, own):
            engagement = None
        return Explanation(
            dossier=dossier,
            condition=condition,
            bearing=bearing(condition, self._situation(dossier, own, next_look)),
            brake=engagement,
            versions=versions,
            newest=None if newest is None else watch.key.at(newest),
            unadopted=_unadopted(watch, newest, looks, self._settings.checks.deadline),
            last_look=looks[-1].at if looks else None,
            next_look=next_look,
            rewrap_waits_for=_what_rewrap_waits_for(dossier, versions),
            advice=(
                *about_brake(engagement, own, holds=dossier.brake.holds(self._mode)),
                *self._adviser.advice(dossier.account, watch, versions),
            ),
            keep=tuple(_kept(watch, versions, newest)),
        )

    def _situation(self, dossier: Dossier, own: VersionStanding | None, next_look: datetime | None) -> Situation:
        return Situation(
            account=dossier.account,
            own=own,
            brake=dossier.brake,
            mode=self._mode,
            policy=self._policy,
            max_plaintext_age=self._settings.values.max_plaintext_age,
            next_look=next_look,
        )

    def _standing(
        self, account: Account, watch: Watch, version: WrappingVersion, looks: tuple[Sighting, ...]
    ) -> VersionStanding:
        suspicion = version.verdict.suspicion
        return VersionStanding(
            version=version,
            identifier=watch.key.at(version.version),
            wraps_account=version.id == account.wrapping_version,
            is_current=version.id == watch.current,
            looks=tuple((look, seen) for look in looks for seen in look.seen if seen.version == version.version),
            confirmed_at=self._confirmed_at(version),
            held_until=None
            if suspicion is None or suspicion.held_since is None
            else suspicion.held_since + self._policy.brake_max_hold,
            steady_at=self._steady_at(version),
            warned=frozenset(one.kind for one in watch.warnings if one.version == version.version),
        )

    def _concerns(self, engagement: Engagement, own: VersionStanding | None) -> bool:
        """Whether the brake holds it, would do so, or was engaged for what had become a denial a moment before.

        An operator engages it for what is to come: to what is denied already, no verb of the brake does anything.
        """
        if own is None or not own.may_be_our_fault:
            return False
        verdict, policy = own.version.verdict, self._policy
        if verdict.outcome is Outcome.USABLE or engagement.by is EngagedBy.OPERATOR:
            return verdict.outcome is Outcome.USABLE and verdict.suspicion is not None
        round_ = policy.check_interval * (1 + policy.check_jitter) + policy.confirm_after
        return verdict.since >= engagement.since - round_

    def _confirmed_at(self, version: WrappingVersion) -> datetime | None:
        """Say from when on a second denial confirms the first; that of another reason than a denied version's waits."""
        verdict = version.verdict
        suspicion = verdict.suspicion
        if suspicion is None or suspicion.held_since is not None:
            return None
        wait = confirm_after(suspicion.reason, self._policy)
        if verdict.outcome is Outcome.DENIED:
            wait = max(wait, steadiness(verdict, self._policy, now=self._clock.now()))
        return suspicion.since + wait

    def _steady_at(self, version: WrappingVersion) -> datetime | None:
        """Say from when on a version that came and went too often would count as usable, being seen so from now on."""
        verdict, now = version.verdict, self._clock.now()
        wait = steadiness(verdict, self._policy, now=now)
        if verdict.outcome is Outcome.USABLE or not wait:
            return None
        return (verdict.proving_since or now) + wait


def _newest(watch: Watch, looks: tuple[Sighting, ...]) -> KeyVersion | None:
    """Give the newest version of the key as far as it is known: what GET said last, or else what was adopted last."""
    if watch.key.version is not None:
        return None
    return next((look.newest for look in reversed(looks) if look.newest), watch.current_version.version)


def _unadopted(watch: Watch, newest: KeyVersion | None, looks: tuple[Sighting, ...], deadline: timedelta) -> str | None:
    """Say why looks did not come to the newest version, or for long enough to none; None when they did."""
    short = looks[-1].shortfall if looks else None
    if newest is None or short is None or short.newest is None:
        return None
    if newest not in watch.adopted:
        return _cut_at(short, deadline)
    if looks[-1].newest is None and looks[-2:-1] and looks[-2].newest is None:
        return f"a newer version, if there is one: {_cut_at(short, deadline)}"
    return None


def _cut_at(short: Shortfall, deadline: timedelta) -> str:
    if not short.unread:
        return f"the last check got no answer about it: {short.newest}"
    ended = f"ended after {deadline.total_seconds():g} s (checks.deadline)"
    if short.limited:
        ended = "was cut off by our own limit on calls to the vault (vaults.quota_share)"
    left = f"{short.unread} of {short.of} things to read unread (each version in use, and the newest)"
    return f"the last check {ended} with {left}; the next one begins with those"


def _what_rewrap_waits_for(dossier: Dossier, versions: tuple[VersionStanding, ...]) -> str | None:
    own = next((one for one in versions if one.wraps_account), None)
    target = next((one for one in versions if one.is_current), None)
    if own is None or target is None or own is target:
        return None
    for one in (own, target):
        verdict = one.version.verdict
        trouble = next(one.troubles(), None)
        if verdict.outcome is not Outcome.USABLE or trouble is not None:
            about, reason = trouble or ("denial", verdict.reason)
            return f"version {one.identifier.version} has to be usable: {about}, {reason}"
    if dossier.rewrap_failure is not None and dossier.rewrap_attempts:
        return f"the next try after a failure: {dossier.rewrap_failure.data.get('failure')}"
    return "its turn"


def _kept(watch: Watch, versions: tuple[VersionStanding, ...], newest: KeyVersion | None) -> Iterator[Keep]:
    if newest is None:
        return
    for one in versions:
        if one.version.version != newest and not one.is_gone:
            yield Keep(one.identifier, watch.key.at(newest), one.wraps_account)
