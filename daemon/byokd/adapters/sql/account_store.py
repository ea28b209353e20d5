"""The AccountStore port: each method hands one transaction to a runner."""

from collections.abc import Sequence
from datetime import datetime

from byokd.adapters.sql import accounts, claims
from byokd.adapters.sql.part import StorePart
from byokd.domain.accounts import Account, AccountSpec
from byokd.domain.identifiers import AccountId
from byokd.records import Claim, KeyPlacement


class SqlAccountStore(StorePart):
    """Accounts, in an SQL database. Obligations and errors of each method: see `AccountStore`."""

    async def account(self, account: AccountId) -> Account | None:
        """See `AccountStore.account`."""
        return await self._runner.read(accounts.account, account)

    async def accounts(self, *, name: str | None = None) -> Sequence[Account]:
        """See `AccountStore.accounts`."""
        return await self._runner.read(accounts.all_accounts, name=name)

    async def may_claim(self, spec: AccountSpec, claim: Claim) -> bool:
        """See `AccountStore.may_claim`."""
        return await self._runner.read(claims.may_claim, spec, claim)

    async def create_account(
        self,
        spec: AccountSpec,
        placement: KeyPlacement,
        *,
        incarnation: str,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """See `AccountStore.create_account`."""
        return await self._runner.write(
            accounts.create_account,
            spec,
            placement,
            incarnation=incarnation,
            claim=claim,
            recorder=self._recorder,
            now=now,
        )

    async def update_account(
        self,
        account: Account,
        spec: AccountSpec,
        placement: KeyPlacement | None,
        *,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """See `AccountStore.update_account`."""
        return await self._runner.write(
            accounts.update_account, account, spec, placement, claim=claim, recorder=self._recorder, now=now
        )

    async def repair_account(
        self,
        account: Account,
        spec: AccountSpec,
        placement: KeyPlacement,
        *,
        now: datetime,
        claim: Claim = Claim.EXCLUSIVE,
    ) -> Account:
        """See `AccountStore.repair_account`."""
        return await self._runner.write(
            accounts.repair_account, account, spec, placement, claim=claim, recorder=self._recorder, now=now
        )

    async def delete_account(self, account: AccountId, *, now: datetime) -> bool:
        """See `AccountStore.delete_account`.

        Wraps and values are gone from the files when this returns, as after `settle`.
        """
        deleted = await self._runner.write(accounts.delete_account, account, recorder=self._recorder, now=now)
        if deleted:
            await self._runner.scrub()
        return deleted
