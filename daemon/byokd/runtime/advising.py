"""What to do about an account: about the brake, the version that wraps it, the one it is to move to, and warnings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from byokd.domain.accounts import Account
from byokd.domain.answers import Evidence
from byokd.domain.brake import Engagement
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.remedies import Case, Mender, Remedy, remedy, remedy_of_warning
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import AccountFault, Reason, State
from byokd.ports import Clock
from byokd.runtime.brake_words import ways_out, why_engaged
from byokd.runtime.conditions import VersionStanding
from byokd.runtime.identity_words import hint_of
from byokd.settings import IdentitySettings


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: `about` is brake, denial, suspicion, unverified, damage or warning, `reason` its name."""

    about: str
    reason: str
    key: KeyIdentifier
    remedy: Remedy


class Adviser:
    """Gives remedies with the real names in them."""

    def __init__(self, identities: Mapping[str, IdentitySettings], clock: Clock) -> None:
        """Take the identities of the settings."""
        self._identities = identities
        self._clock = clock

    def advice(self, account: Account, watch: Watch, versions: tuple[VersionStanding, ...]) -> Iterator[Advice]:
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
        identity = self._identities.get(watch.identity, IdentitySettings())
        return Case(
            key,
            watch.tenant,
            watch.identity,
            identity.client_id,
            inner_code=None if said is None else said.inner_code,
            address=None if said is None else said.address,
            now=self._clock.now(),
        )


def about_brake(engagement: Engagement | None, own: VersionStanding | None, *, holds: bool) -> Iterator[Advice]:
    """Give what to do about an engaged brake, before what the customer could do: it may be no doing of theirs."""
    if engagement is None or own is None:
        return
    (_, reason), *_ = own.troubles()
    first = "it may be our own fault: look at our identity, network and DNS before the customer does anything"
    text = f"{first}. The brake is {why_engaged(engagement)}; {ways_out(engagement, holds=holds)}"
    yield Advice(
        "brake", str(reason), own.identifier, Remedy(Mender.OPERATOR, text, ("byokd brake status", "byokd doctor"))
    )


def _last_code(standing: VersionStanding) -> str | None:
    """Give the code of what the last look met; None when there was none since the start."""
    answers = standing.looks[-1][1].answers if standing.looks else ()
    return next((answer.code for answer in answers if answer.code), None)


def _said_of_get(versions: tuple[VersionStanding, ...]) -> Evidence | None:
    """Give what the last refusal of a GET rests on."""
    seen = [answer for one in versions for _, sighted in reversed(one.looks) for answer in sighted.answers]
    return next((answer for answer in seen if answer.operation.startswith("get") and answer.inner_code), None)
