"""Protected values, and the gate before them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from byokd.domain.accounts import Account
from byokd.domain.identifiers import AccountId
from byokd.domain.values import ValueInfo, ValueRef
from byokd.records import Gate, ProtectedValue


class ValueStore(Protocol):
    """Protected values, and the gate before them. Each method is one transaction; see `Store`."""

    async def gate(self, account: AccountId) -> Gate | None:
        """Give, as of one moment, what decides whether an account key may be used now; None when there is no account.

        The verdict is the wrapping version's own row, so that one commit closes the gate of all its accounts.
        """
        ...

    async def put_value(self, account: Account, value: ProtectedValue, *, most: int, now: datetime) -> ValueInfo:
        """Write a protected value: a new one at revision 1, or the next revision of the one that is there.

        Guarded by the account's incarnation, by the value's revision (one above the stored one), and by the verdict of
        the version that wraps the account now: once a denial of it is committed, nothing is written. Nor is anything to
        a damaged account.

        Raises:
            StaleError: the account or the value is not as it was, or is damaged, or the wrapping version is denied.
            TooManyError: it would be new, and the account has `most` values.
        """
        ...

    async def value(self, account: Account, ref: ValueRef) -> ProtectedValue | None:
        """Give a protected value of this incarnation of the account; None when there is none."""
        ...

    async def values(self, account: Account) -> Sequence[ValueInfo]:
        """Tell of the account's protected values, by kind and name: never their content."""
        ...

    async def remove_value(self, account: Account, ref: ValueRef) -> bool:
        """Erase a protected value of this incarnation; false when it was not there."""
        ...
