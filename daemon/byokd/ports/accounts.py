"""Accounts: which there are, and whose identities they use."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from byokd.domain.accounts import Account, AccountSpec
from byokd.domain.identifiers import AccountId
from byokd.records import Claim, KeyPlacement


class AccountStore(Protocol):
    """Accounts. Each method is one transaction; see `Store`."""

    async def account(self, account: AccountId) -> Account | None:
        """Give one account."""
        ...

    async def accounts(self, *, name: str | None = None) -> Sequence[Account]:
        """Give all accounts, or those of this name, by id."""
        ...

    async def may_claim(self, spec: AccountSpec, claim: Claim) -> bool:
        """Tell whether this account may use its identity so now; in the next moment it may be another answer."""
        ...

    async def create_account(
        self,
        spec: AccountSpec,
        placement: KeyPlacement,
        *,
        incarnation: str,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """Write a new account at generation 1, Accessible, with `created`; make its vault and watch where needed.

        It claims its identity for its tenant: with EXCLUSIVE, no account of another tenant has that identity. The claim
        lasts until the last account that has it is gone or moved.

        Raises:
            ExistsError: the account is there already.
            IdentityTakenError: the identity serves another tenant.
            StaleError: the watch was made meanwhile, or is not on the placement's version any more.
        """
        ...

    async def update_account(
        self,
        account: Account,
        spec: AccountSpec,
        placement: KeyPlacement | None,
        *,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """Write a changed account with `updated`; a placement moves the account key (generation + 1).

        Guarded by the account's incarnation and sequence as in `account`. Another identity, or a placement, claims the
        identity as `create_account` does.

        Raises:
            IdentityTakenError: the identity serves another tenant.
        """
        ...

    async def repair_account(
        self,
        account: Account,
        spec: AccountSpec,
        placement: KeyPlacement,
        *,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """As `update_account`, for an Inaccessible account whose identity, or tenant too, is another one from now on.

        Raises:
            IdentityTakenError: the identity serves another tenant.
            StaleError: the account is not Inaccessible any more, beside what `update_account` guards.
        """
        ...

    async def delete_account(self, account: AccountId, *, now: datetime) -> bool:
        """Erase the account, its wraps, its values and, if unused, its watch, with `deleted`; false if not there."""
        ...
