"""What a condition means for the customer: what works, what does not and why, and until when. See the gate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from byokd.domain.accounts import Account, instant
from byokd.domain.brake import Brake, BrakeMode, EngagedBy
from byokd.domain.verdict import Policy
from byokd.runtime.conditions import Condition, VersionStanding

LOOKING: Final = ("showing, listing and deleting the account", "listing and removing its protected values")
"""What needs no account key, and so works in every condition."""

USING: Final = (
    "protecting and revealing values",
    "giving the account another key",
    "moving its key to a newer version",
)
"""What needs the account key."""

_EVERYTHING: Final = ("everything",)
_LIVE: Final = (
    "{}: nothing is held in memory, so each asks the vault at that moment to unwrap the account key, and is refused as "
    "long as the vault refuses"
)


@dataclass(frozen=True, slots=True)
class Bearing:
    """What it means, in words.

    Attributes:
        why: what was seen of the key that makes it so.
        means: what byokd makes of it.
        works: what can be done.
        refused: what cannot, and why.
        until: what ends it, and when; None when there is nothing to wait for.
    """

    why: str
    means: str
    works: tuple[str, ...]
    refused: tuple[str, ...]
    until: str | None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a bearing is made from.

    Attributes:
        own: the version that wraps the account; None under the system key.
        mode: of the brake, as it is set now.
        max_plaintext_age: how long an account key is held in memory.
        next_look: when its watch is looked at next.
    """

    account: Account
    own: VersionStanding | None
    brake: Brake
    mode: BrakeMode
    policy: Policy
    max_plaintext_age: timedelta
    next_look: datetime | None

    @property
    def looked_at(self) -> str:
        """Say when it is looked at next."""
        return "next look" if self.next_look is None else f"next look {instant(self.next_look)}"

    @property
    def is_held_back(self) -> bool:
        """Whether the brake would hold a denial of its version that is confirmed now."""
        return self.own is not None and self.own.may_be_our_fault and self.brake.holds(self.mode)


def bearing(condition: Condition, case: Situation) -> Bearing:
    """Say what a condition means."""
    made = _BEARINGS[condition](case)
    unseen = _unseen(case)
    if condition is Condition.UNVERIFIED or unseen is None or made.until is None:
        return made
    return Bearing(made.why, made.means, made.works, made.refused, f"{made.until}; {unseen}")


def _system_key(case: Situation) -> Bearing:
    means = (
        "the account key is wrapped by the service's own system key: there is no customer key to be checked, and "
        "nothing that the customer could withdraw"
    )
    return Bearing(case.account.message, means, _EVERYTHING, (), None)


def _healthy(case: Situation) -> Bearing:
    return Bearing(case.account.message, "everything works", _EVERYTHING, (), None)


def _unverified(case: Situation) -> Bearing:
    unverified = None if case.own is None else case.own.version.verdict.unverified
    if unverified is None:
        raise AssertionError("an unverified account has a version that is")
    limit = case.policy.fail_closed_after
    age = int(case.max_plaintext_age.total_seconds())
    until = f"the vault answers ({case.looked_at})"
    if limit is not None:
        until = f"{until}; at {instant(unverified.since + limit)} the account becomes Inaccessible without an answer"
    return Bearing(
        f"the key could not be checked since {instant(unverified.since)}: {unverified.reason}",
        "the account stays as it was, because nothing was said of the key",
        (*LOOKING, f"{USING[0]} with an account key that was unwrapped less than {age} s ago"),
        (f"{USING[0]} otherwise, and {USING[1]}: that needs an answer of the vault", f"{USING[2]}: it waits"),
        until,
    )


def _suspected(case: Situation) -> Bearing:
    own = case.own
    suspicion = None if own is None else own.version.verdict.suspicion
    if own is None or suspicion is None or own.confirmed_at is None:
        raise AssertionError("a suspected account has a version that is")
    then = "the account becomes Inaccessible"
    if case.is_held_back:
        then = "the brake holds it back, and the account stays as it is"
    return Bearing(
        _refused_since(suspicion.message, suspicion.since),
        "the vault refused, which does not count yet: the account's state is as it was, and nothing of it is published",
        LOOKING,
        (_LIVE.format(f"{USING[0]}, {USING[1]}"), f"{USING[2]}: it waits"),
        f"a look finds the key usable ({case.looked_at}): then all is as before; "
        f"a refusal from {instant(own.confirmed_at)} on confirms it: {then}",
    )


def _held(case: Situation) -> Bearing:
    own, engagement = case.own, case.brake.engagement
    suspicion = None if own is None else own.version.verdict.suspicion
    if own is None or suspicion is None or own.held_until is None:
        raise AssertionError("a held account has a version that is")
    until = f"a look finds the key usable ({case.looked_at}): then all is as before"
    if engagement is None or not case.brake.holds(case.mode):
        why = "the brake held it back, and does not any more"
        until = f"{until}; the next refusal counts: the account becomes Inaccessible"
    else:
        by_hand = engagement.by is EngagedBy.OPERATOR and engagement.finding is None
        cause = "an operator engaged it" if by_hand else "so many customers are refused that it may be our own fault"
        why = f"the brake holds it back, because {cause}"
        until = (
            f"{until}; `byokd brake release` makes it a first refusal again, `byokd brake confirm` applies it; a "
            f"refusal from {instant(own.held_until)} on counts: the account becomes Inaccessible"
        )
    return Bearing(
        _refused_since(suspicion.message, suspicion.since),
        f"the vault refused, and again to confirm it. {why[0].upper()}{why[1:]}: the account's state is as it was, "
        "and nothing of it is published",
        LOOKING,
        (_LIVE.format(f"{USING[0]}, {USING[1]}"), f"{USING[2]}: it waits"),
        until,
    )


def _damaged(case: Situation) -> Bearing:
    damage = case.account.damage
    if damage is None:
        raise AssertionError("a damaged account has a damage")
    return Bearing(
        f"{damage.message}, since {instant(damage.since)}",
        "the account's own record does not open, while its key does: this account alone is concerned, and its state "
        "says nothing of it",
        LOOKING,
        (f"{USING[0]}, {USING[1]}: the record does not open", f"{USING[2]}: it is tried on, and fails"),
        "the record is proved to open (`byokd keys verify`, or `byokd check ACCOUNT`)",
    )


def _inaccessible(case: Situation) -> Bearing:
    own, damage = case.own, case.account.damage
    until = f"the key is seen usable ({case.looked_at}): then the account works again by itself, and what it protects"
    if damage is not None:
        until = (
            f"the key is seen usable ({case.looked_at}): then the account is Accessible, but damaged since "
            f"{instant(damage.since)}: what needs its account key works when its record is proved to open"
        )
    if own is not None and own.steady_at is not None:
        proving = own.version.verdict.proving_since
        seen = "it has to be seen so for a while" if proving is None else f"it is seen so since {instant(proving)}"
        until = f"{until}; it came and went too often lately, so {seen}: until {instant(own.steady_at)} if it lasts"
    return Bearing(
        case.account.message,
        "only showing, listing and deleting the account work; what needs its account key is refused",
        LOOKING,
        (f"{USING[0]}, changing the account, {USING[2]}",),
        until,
    )


_BEARINGS: Mapping[Condition, Callable[[Situation], Bearing]] = {
    Condition.SYSTEM_KEY: _system_key,
    Condition.HEALTHY: _healthy,
    Condition.UNVERIFIED: _unverified,
    Condition.SUSPECTED: _suspected,
    Condition.HELD: _held,
    Condition.DAMAGED: _damaged,
    Condition.INACCESSIBLE: _inaccessible,
}


def _refused_since(message: str, since: datetime) -> str:
    return f"{message}, since {instant(since)}"


def _unseen(case: Situation) -> str | None:
    """Say that it cannot be seen now whether anything has changed."""
    unverified = None if case.own is None else case.own.version.verdict.unverified
    if unverified is None or not unverified.is_silent:
        return None
    return f"the vault gives no answer now ({unverified.reason}): not verified since {instant(unverified.since)}"
