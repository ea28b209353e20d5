"""How an account is: in which condition, by which of its key's versions, and what is amiss with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from byokd.domain.accounts import Account
from byokd.domain.brake import OUR_FAULT_CAN_CAUSE
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.verdict import WrappingVersion
from byokd.domain.vocabulary import Outcome, Reason, State, WarningKind
from byokd.runtime.sightings import Sighted, Sighting


class Condition(StrEnum):
    """How an account is, in one word: its state, or what is amiss beside it."""

    SYSTEM_KEY = "system-key"
    HEALTHY = "healthy"
    UNVERIFIED = "unverified"
    SUSPECTED = "suspected"
    HELD = "held"
    DAMAGED = "damaged"
    INACCESSIBLE = "inaccessible"


WELL: Final = frozenset({Condition.SYSTEM_KEY, Condition.HEALTHY, Condition.UNVERIFIED})
"""Conditions in which nothing refuses the account's key."""

_GONE: Final = frozenset(
    {Reason.KEY_NOT_FOUND, Reason.KEY_VERSION_NOT_FOUND, Reason.VAULT_NOT_FOUND, Reason.PROBE_MISMATCH}
)
"""Denials of what is not there any more, or is not what it was."""

_WRAPS_NOTHING: Final = frozenset(
    {WarningKind.WRAP_NOT_PERMITTED, WarningKind.KEY_EXPIRED, WarningKind.KEY_NOT_YET_VALID}
)
"""Warnings of a version that unwraps, and cannot wrap."""


@dataclass(frozen=True, slots=True)
class VersionStanding:
    """A wrapping version of the account's watch.

    Attributes:
        is_current: whether new account keys are wrapped with it.
        looks: what the last looks saw of it, the latest last; empty when there was none since the start.
        confirmed_at: from when on a second denial counts; None without a suspicion that awaits one.
        held_until: until when at most the brake holds a denial; None without one.
        steady_at: from when on a denied version that is seen usable counts as usable; None when it does at once.
        warned: what is amiss with it though it unwraps.
    """

    version: WrappingVersion
    identifier: KeyIdentifier
    wraps_account: bool
    is_current: bool
    looks: tuple[tuple[Sighting, Sighted], ...]
    confirmed_at: datetime | None
    held_until: datetime | None
    steady_at: datetime | None = None
    warned: frozenset[WarningKind] = frozenset()

    @property
    def wraps_new_keys(self) -> bool:
        """Whether an account that comes to the key would be wrapped with it."""
        return self.is_current and not self.is_refused and not self.warned & _WRAPS_NOTHING

    @property
    def is_refused(self) -> bool:
        """Whether a denial of it is stored, be it suspected, held or confirmed."""
        verdict = self.version.verdict
        return verdict.outcome is Outcome.DENIED or verdict.suspicion is not None

    @property
    def is_gone(self) -> bool:
        """Whether what is refused is not there any more, so that it can neither be enabled nor disabled."""
        return any(reason in _GONE for _, reason in self.troubles())

    @property
    def may_be_our_fault(self) -> bool:
        """Whether it is refused for a reason that the brake holds."""
        return any(reason in OUR_FAULT_CAN_CAUSE for _, reason in self.troubles())

    def troubles(self) -> Iterator[tuple[str, Reason]]:
        """Give what is amiss with it: `denial`, `suspicion` or `unverified`, and why; each reason once."""
        verdict = self.version.verdict
        told: set[Reason] = set()
        found = [
            ("denial", verdict.reason if verdict.outcome is Outcome.DENIED else None),
            ("suspicion", None if verdict.suspicion is None else verdict.suspicion.reason),
            ("unverified", verdict.unverified.reason if verdict.unverified and verdict.unverified.is_silent else None),
        ]
        for about, reason in found:
            if reason is not None and reason not in told:
                told.add(reason)
                yield about, reason


def condition_of(account: Account, own: VersionStanding | None) -> Condition:
    """Give the condition of an account; `own` is the version that wraps it, None under the system key."""
    verdict = None if own is None else own.version.verdict
    if account.state is State.INACCESSIBLE or (verdict is not None and verdict.outcome is Outcome.DENIED):
        return Condition.INACCESSIBLE
    if account.damage is not None:
        return Condition.DAMAGED
    if verdict is None:
        return Condition.SYSTEM_KEY
    if verdict.suspicion is not None:
        return Condition.HELD if verdict.is_held() else Condition.SUSPECTED
    return Condition.HEALTHY if verdict.unverified is None else Condition.UNVERIFIED
