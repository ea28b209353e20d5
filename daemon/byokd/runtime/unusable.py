"""Why an account key cannot be used, in words for people: each says what, and as a hint what to do."""

from byokd.domain.accounts import Damage, instant
from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import AccountId
from byokd.domain.mending import what_mends
from byokd.domain.vocabulary import AccountFault, Reason
from byokd.records import Standing
from byokd.runtime.account_keys import VaultRefusedError


class UnusableError(Exception):
    """An account key, or what it protects, cannot be used. Nothing in the message is secret."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class AccountUnknownError(UnusableError):
    """There is no such account."""


class InaccessibleError(UnusableError):
    """The customer has withdrawn the key: a committed denial with its reason, or a refusal met just now."""

    def __init__(self, message: str, *, hint: str, reason: Reason | None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class UnavailableError(UnusableError):
    """It cannot be used now, which says nothing of the customer's will: try again."""


class RecordDamagedError(UnusableError):
    """What is stored does not open in its place. Operators have to look."""


class AccountDamagedError(RecordDamagedError):
    """The account's own record does not open: noted, so that nothing is tried. No denial; `reason` is the fault."""

    reason = AccountFault.ACCOUNT_KEY_DAMAGED


def damaged(damage: Damage) -> AccountDamagedError:
    """Say that the account is damaged, since when, and what an operator can do."""
    since = instant(damage.since)
    return AccountDamagedError(
        f"{AccountFault.ACCOUNT_KEY_DAMAGED}: the account key does not open since {since}: {damage.message}",
        hint="keep the database, a backup may hold a good record; byokd keys verify ends it once the record opens",
    )


def unknown(account: AccountId) -> AccountUnknownError:
    """Say that there is no such account."""
    return AccountUnknownError(f"there is no account {account.name!r}", hint="byokd accounts list shows all")


def denied(standing: Standing) -> InaccessibleError:
    """Say that the account is Inaccessible, why, and what gives it back."""
    return InaccessibleError(
        f"the account is Inaccessible: {standing.message}", hint=what_mends(standing.reason), reason=standing.reason
    )


def not_unwrapped(error: VaultRefusedError) -> UnusableError:
    """Say that the vault did not unwrap the account key: it refused, or gave no answer."""
    answer: Refused | NoAnswer = error.answer
    if isinstance(answer, Refused):
        return InaccessibleError(str(error), hint=error.hint, reason=None)
    return UnavailableError(str(error), hint="the vault decides on each use now; try again when it answers")
