"""Why an account is as it is, since when, by what evidence, what comes next, and what mends it.

Everything comes from the store and from memory: a vault that does not answer is not waited for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from byokd.domain.accounts import Account
from byokd.domain.answers import Evidence
from byokd.domain.identifiers import AccountId, KeyIdentifier, KeyVersion, WatchId
from byokd.domain.remedies import Case, Remedy, remedy, remedy_of_warning
from byokd.domain.verdict import Policy, Watch, WrappingVersion
from byokd.domain.vocabulary import AccountFault, Outcome, Reason, State
from byokd.domain.weigh import confirm_after
from byokd.ports import Clock, Store
from byokd.records import Dossier
from byokd.runtime.identity_words import hint_of
from byokd.runtime.sightings import Sighted, Sighting, Sightings
from byokd.settings import IdentitySettings, Settings

EVENTS: Final = 8
"""Of the history, the last ones."""

MEANINGS: Final = {
    "system-key": "the account key is wrapped by the service's own system key: there is no customer key to be checked, "
    "and nothing that the customer could withdraw",
    "healthy": "everything works",
    "unverified": "the account stays as it was, because nothing was said of the key; what needs the account key works "
    "until what is held in memory is too old (values.max_plaintext_age), and then only with an answer of the vault",
    "suspected": "the vault refused once, which does not count yet: the account works on, but each use of its account "
    "key now needs a live unwrap by the vault",
    "held": "the vault refused, confirmed, but so many customers seem to refuse at once that it may well be our own "
    "fault: the brake holds it. The account works on, but each use of its account key needs a live unwrap by the vault",
    "damaged": "the account's own record does not open, while its key does: what needs its account key is refused, for "
    "this account alone, until a proof that it opens",
    "inaccessible": "only showing, listing and deleting the account work; what needs its account key is refused. When "
    "the reason is gone it works again by itself, and what it protects with it",
}
"""What a condition means for the customer."""


@dataclass(frozen=True, slots=True)
class VersionStanding:
    """A wrapping version of the account's watch.

    Attributes:
        looks: what the last looks saw of it, the latest last; empty when there was none since the start.
        confirmed_at: from when on a second denial counts; None without a suspicion that awaits one.
        held_until: until when at most the brake holds a denial; None without one.
    """

    version: WrappingVersion
    identifier: KeyIdentifier
    wraps_account: bool
    wraps_new_keys: bool
    looks: tuple[tuple[Sighting, Sighted], ...]
    confirmed_at: datetime | None
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about one thing: `about` is denial, suspicion, unverified, damage or warning, `reason` its name."""

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
        condition: a key of MEANINGS.
        last_look: when the watch was last looked at, as far as memory or store know.
        next_look: when it is next looked at; in the past while it waits for its turn.
        rewrap_waits_for: why the account key is still to be moved; None when it is not.
    """

    dossier: Dossier
    condition: str
    is_bad: bool
    versions: tuple[VersionStanding, ...]
    newest: KeyIdentifier | None
    last_look: datetime | None
    next_look: datetime | None
    rewrap_waits_for: str | None
    advice: tuple[Advice, ...]
    keep: tuple[Keep, ...]


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
        if dossier.watch is None:
            condition = "system-key" if dossier.account.damage is None else "damaged"
            bad = condition != "system-key"
            return Explanation(dossier, condition, bad, (), None, None, None, None, (), ())
        return self._of_watch(dossier, dossier.watch)

    def _of_watch(self, dossier: Dossier, watch: Watch) -> Explanation:
        looks = self._sightings.of(watch.id)
        versions = tuple(self._standing(dossier.account, watch, version, looks) for version in watch.versions)
        newest = _newest(watch, looks)
        condition = _condition(dossier.account, versions)
        observed = max((version.verdict.observed_at for version in watch.versions), default=None)
        return Explanation(
            dossier=dossier,
            condition=condition,
            is_bad=condition in {"inaccessible", "suspected", "held", "damaged"},
            versions=versions,
            newest=None if newest is None else watch.key.at(newest),
            last_look=looks[-1].at if looks else observed,
            next_look=self._next_look(watch.id) or watch.due_at,
            rewrap_waits_for=_what_rewrap_waits_for(dossier, versions),
            advice=tuple(self._advice(dossier.account, watch, versions)),
            keep=tuple(_kept(watch, versions, newest)),
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
            wraps_new_keys=version.id == watch.current,
            looks=tuple((look, seen) for look in looks for seen in look.seen if seen.version == version.version),
            confirmed_at=suspicion.since + confirm_after(suspicion.reason, self._policy)
            if suspicion is not None and awaits
            else None,
            held_until=None
            if suspicion is None or suspicion.held_since is None
            else suspicion.held_since + self._policy.brake_max_hold,
        )

    def _advice(self, account: Account, watch: Watch, versions: tuple[VersionStanding, ...]) -> Iterator[Advice]:
        """Give what to do about the version that wraps the account, the one it is to move to, and the warnings."""
        told: set[Reason] = set()
        for standing in sorted(versions, key=lambda one: not one.wraps_account):
            if not (standing.wraps_account or standing.wraps_new_keys):
                continue
            for about, reason in _troubles(standing.version):
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
            made = remedy_of_warning(warning.kind, self._case_of(watch, key))
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


def _condition(account: Account, versions: tuple[VersionStanding, ...]) -> str:
    verdict = next((one.version.verdict for one in versions if one.wraps_account), None)
    if account.state is State.INACCESSIBLE or (verdict is not None and verdict.outcome is Outcome.DENIED):
        return "inaccessible"
    if account.damage is not None:
        return "damaged"
    if verdict is not None and verdict.suspicion is not None:
        return "suspected" if verdict.suspicion.held_since is None else "held"
    return "unverified" if verdict is not None and verdict.unverified is not None else "healthy"


def _troubles(version: WrappingVersion) -> Iterator[tuple[str, Reason]]:
    """Give what is amiss with a version; each reason once."""
    verdict = version.verdict
    told: set[Reason] = set()
    found = [
        ("denial", verdict.reason if verdict.outcome is Outcome.DENIED else None),
        ("suspicion", None if verdict.suspicion is None else verdict.suspicion.reason),
        ("unverified", None if verdict.unverified is None else verdict.unverified.reason),
    ]
    for about, reason in found:
        if reason is not None and reason not in told:
            told.add(reason)
            yield about, reason


def _what_rewrap_waits_for(dossier: Dossier, versions: tuple[VersionStanding, ...]) -> str | None:
    own = next((one for one in versions if one.wraps_account), None)
    target = next((one for one in versions if one.wraps_new_keys), None)
    if own is None or target is None or own is target:
        return None
    for one in (own, target):
        verdict = one.version.verdict
        trouble = next(iter(_troubles(one.version)), None)
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
        if one.version.version != newest:
            yield Keep(one.identifier, watch.key.at(newest), one.wraps_account)
