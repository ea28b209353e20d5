"""Why an account is as it is, since when, by what evidence, what comes next, and what mends it.

Everything comes from the store and from memory: a vault that does not answer is not waited for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from byokd.domain.accounts import Account
from byokd.domain.answers import Evidence
from byokd.domain.brake import BrakeMode, Engagement
from byokd.domain.identifiers import AccountId, KeyIdentifier, KeyVersion, WatchId
from byokd.domain.remedies import Case, Mender, Remedy, remedy, remedy_of_warning
from byokd.domain.verdict import Policy, Watch, WrappingVersion
from byokd.domain.vocabulary import AccountFault, Outcome, Reason, State
from byokd.domain.weigh import confirm_after, steadiness
from byokd.ports import Clock, Store
from byokd.records import Dossier
from byokd.runtime.bearings import Bearing, Situation, bearing
from byokd.runtime.brake_words import ways_out, why_engaged
from byokd.runtime.conditions import WELL, Condition, VersionStanding, condition_of
from byokd.runtime.identity_words import hint_of
from byokd.runtime.sightings import Sighting, Sightings
from byokd.settings import IdentitySettings, Settings

EVENTS: Final = 8
"""Of the history, the last ones."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: `about` is brake, denial, suspicion, unverified, damage or warning, `reason` its name."""

    about: str
    reason: str
    key: KeyIdentifier
    remedy: Remedy


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
        last_look: when the watch was last looked at, as far as memory or store know.
        next_look: when it is next looked at; in the past while it waits for its turn.
        rewrap_waits_for: why the account key is still to be moved; None when it is not.
    """

    dossier: Dossier
    condition: Condition
    bearing: Bearing
    brake: Engagement | None
    versions: tuple[VersionStanding, ...]
    newest: KeyIdentifier | None
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
        return Explanation(dossier, condition, meant, None, (), None, None, None, None, (), ())

    def _of_watch(self, dossier: Dossier, watch: Watch) -> Explanation:
        looks = self._sightings.of(watch.id)
        versions = tuple(self._standing(dossier.account, watch, version, looks) for version in watch.versions)
        own = next((one for one in versions if one.wraps_account), None)
        newest = _newest(watch, looks)
        condition = condition_of(dossier.account, own)
        observed = max((version.verdict.observed_at for version in watch.versions), default=None)
        next_look = self._next_look(watch.id) or watch.due_at
        concerned = own is not None and own.may_be_our_fault
        engagement = dossier.brake.engagement if concerned else None
        return Explanation(
            dossier=dossier,
            condition=condition,
            bearing=bearing(condition, self._situation(dossier, own, next_look)),
            brake=engagement,
            versions=versions,
            newest=None if newest is None else watch.key.at(newest),
            last_look=looks[-1].at if looks else observed,
            next_look=next_look,
            rewrap_waits_for=_what_rewrap_waits_for(dossier, versions),
            advice=(*_about_brake(engagement, own), *self._advice(dossier.account, watch, versions)),
            keep=tuple(_kept(watch, versions, newest)),
        )

    def _situation(self, dossier: Dossier, own: VersionStanding | None, next_look: datetime | None) -> Situation:
        return Situation(
            account=dossier.account,
            own=own,
            brake=dossier.brake,
            mode=BrakeMode(self._settings.brake.mode),
            policy=self._policy,
            max_plaintext_age=self._settings.values.max_plaintext_age,
            next_look=next_look,
        )

    def _standing(
        self, account: Account, watch: Watch, version: WrappingVersion, looks: tuple[Sighting, ...]
    ) -> VersionStanding:
        suspicion = version.verdict.suspicion
        awaits = suspicion is not None and suspicion.held_since is None
        return VersionStanding(
            version=version,
            identifier=watch.key.at(version.version),
            wraps_account=version.id == account.wrapping_version,
            is_current=version.id == watch.current,
            looks=tuple((look, seen) for look in looks for seen in look.seen if seen.version == version.version),
            confirmed_at=suspicion.since + confirm_after(suspicion.reason, self._policy)
            if suspicion is not None and awaits
            else None,
            held_until=None
            if suspicion is None or suspicion.held_since is None
            else suspicion.held_since + self._policy.brake_max_hold,
            steady_at=self._steady_at(version),
        )

    def _steady_at(self, version: WrappingVersion) -> datetime | None:
        """Say from when on a version that came and went too often would count as usable, being seen so from now on."""
        verdict, now = version.verdict, self._clock.now()
        wait = steadiness(verdict, self._policy, now=now)
        if verdict.outcome is Outcome.USABLE or not wait:
            return None
        return (verdict.proving_since or now) + wait

    def _advice(self, account: Account, watch: Watch, versions: tuple[VersionStanding, ...]) -> Iterator[Advice]:
        """Give what to do about the version that wraps the account, the one it is to move to, and the warnings."""
        told: set[Reason] = set()
        for standing in sorted(versions, key=lambda one: not one.wraps_account):
            if not (standing.wraps_account or standing.is_current):
                continue
            for about, reason in standing.troubles():
                told.add(reason)
                case = self._case(watch, standing)
                made = remedy(reason, case)
                if reason is Reason.TOKEN_UNAVAILABLE and (code := _last_code(standing)) is not None:
                    made = replace(made, text=f"the identity {watch.identity} gets no token ({code}): {hint_of(code)}")
                yield Advice(about, str(reason), standing.identifier, made)
        own = next((one for one in versions if one.wraps_account), None)
        if own is not None and account.damage is not None:
            fault = AccountFault.ACCOUNT_KEY_DAMAGED
            yield Advice("damage", str(fault), own.identifier, remedy(fault, self._case(watch, own)))
        stated = account.reason
        if own is not None and account.state is State.INACCESSIBLE and stated is not None and stated not in told:
            made = remedy(stated, self._case(watch, own))
            yield Advice("denial", str(stated), own.identifier, made)
        for warning in watch.warnings:
            key = watch.concerned(warning)
            made = remedy_of_warning(warning.kind, self._case_of(watch, key, _said_of_get(versions)))
            yield Advice("warning", str(warning.kind), key, made)

    def _case(self, watch: Watch, standing: VersionStanding) -> Case:
        seen = [answer for _, one in reversed(standing.looks) for answer in one.answers]
        seen += standing.version.verdict.evidence
        said = next((answer for answer in seen if answer.inner_code), None)
        return self._case_of(watch, standing.identifier, said)

    def _case_of(self, watch: Watch, key: KeyIdentifier, said: Evidence | None = None) -> Case:
        identity = self._settings.identities.get(watch.identity, IdentitySettings())
        return Case(
            key,
            watch.tenant,
            watch.identity,
            identity.client_id,
            inner_code=None if said is None else said.inner_code,
            address=None if said is None else said.address,
            now=self._clock.now(),
        )


def _last_code(standing: VersionStanding) -> str | None:
    """Give the code of what the last look met; None when there was none since the start."""
    answers = standing.looks[-1][1].answers if standing.looks else ()
    return next((answer.code for answer in answers if answer.code), None)


def _newest(watch: Watch, looks: tuple[Sighting, ...]) -> KeyVersion | None:
    """Give the newest version of the key as far as it is known: what GET said last, or else what was adopted last."""
    if watch.key.version is not None:
        return None
    return next((look.newest for look in reversed(looks) if look.newest), watch.current_version.version)


def _said_of_get(versions: tuple[VersionStanding, ...]) -> Evidence | None:
    """Give what the last refusal of a GET rests on."""
    seen = [answer for one in versions for _, sighted in reversed(one.looks) for answer in sighted.answers]
    return next((answer for answer in seen if answer.operation.startswith("get") and answer.inner_code), None)


def _about_brake(engagement: Engagement | None, own: VersionStanding | None) -> Iterator[Advice]:
    """Give what to do about an engaged brake, before what the customer could do: it may be no doing of theirs."""
    if engagement is None or own is None:
        return
    (_, reason), *_ = own.troubles()
    first = "it may be our own fault: look at our identity, network and DNS before the customer does anything"
    text = f"{first}. The brake is {why_engaged(engagement)}; {ways_out(engagement)}"
    yield Advice(
        "brake", str(reason), own.identifier, Remedy(Mender.OPERATOR, text, ("byokd brake status", "byokd doctor"))
    )


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
