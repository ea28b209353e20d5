"""Gives an Inaccessible account another identity or tenant: an operator's last resort, and never a customer's."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from byokd.domain.accounts import Account, AccountSpec, CustomerKey
from byokd.domain.admission import Consent
from byokd.domain.answers import Refused
from byokd.domain.identifiers import IdentityName, TenantId, WatchId
from byokd.domain.payload import Payload
from byokd.domain.vocabulary import RefusalKind, State
from byokd.ports import Clock, KeyTarget, StaleError, Store, StoreUnavailableError
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError, rebound
from byokd.runtime.admission import UNWRAP, Admission
from byokd.runtime.registrar import Action, Done, Result, insist
from byokd.runtime.silences import AccountRefusedError, Silences

_log = structlog.get_logger()


class Repairer:
    """Repairs accounts.

    The other identity, in the other tenant, must unwrap the present account key now: that is what shows that it is
    the account's. Then the key goes where those have their watch, wrapped anew and proved as at any registration.
    """

    def __init__(
        self,
        store: Store,
        account_keys: AccountKeys,
        admission: Admission,
        *,
        clock: Clock,
        on_change: Callable[[WatchId | None], Awaitable[None]],
        on_doubt: Callable[[], None],
    ) -> None:
        """Take the collaborators; `on_change` and `on_doubt` are as those of the `Registrar`."""
        self._store = store
        self._account_keys = account_keys
        self._admission = admission
        self._clock = clock
        self._on_change = on_change
        self._on_doubt = on_doubt

    async def repair(self, account: Account, *, identity: IdentityName | None, tenant: TenantId | None) -> Result:
        """Give an account another identity, tenant, or both; None leaves what it has. A refusal changes nothing.

        Raises:
            StoreUnavailableError: whether anything was changed is unknown.
        """
        spec, key = account.spec, account.spec.customer_key
        if key is None:
            return _refused(account, "the account has no customer key", "there is nothing to repair")
        wanted = replace(
            spec, tenant=tenant or spec.tenant, customer_key=CustomerKey(identity or key.identity, key.key)
        )
        if wanted == spec:
            return _refused(
                account,
                "the account has this identity and tenant already",
                "give --identity, --tenant or both",
            )
        try:
            result = await insist(wanted, lambda: self._repair(wanted))
        except StoreUnavailableError:
            self._on_doubt()
            raise
        if result.action is Action.REPAIRED:
            _log.warning("identity-repaired", account=str(spec.id), identity=identity, tenant=tenant)
        return result

    async def _repair(self, wanted: AccountSpec) -> Done:
        present = await self._store.account(wanted.id)
        if present is None:
            raise AccountRefusedError("the account is not there any more", hint="byokd accounts list shows all")
        if present.state is not State.INACCESSIBLE:
            raise AccountRefusedError(
                "the account works: only an Inaccessible one is repaired",
                hint="an account that works is given another identity by `byokd accounts apply`",
            )
        await self._admission.refuse_taken(wanted)
        payload = await self._open(present, wanted)
        placed = await self._admission.place(wanted, rebound(payload, wanted.id), Silences(), Consent.ACCOUNT_KEY)
        repaired = await self._store.repair_account(
            present, wanted, placed.placement, now=self._clock.now(), claim=self._admission.claim(wanted)
        )
        for watch in dict.fromkeys((present.watch, repaired.watch)):
            await self._on_change(watch)
        return Done(Action.REPAIRED, placed.warnings)

    async def _open(self, present: Account, wanted: AccountSpec) -> Payload:
        wrapped = await self._store.wrapped_key(present.id)
        key = wanted.customer_key
        if wrapped is None or wrapped.generation != present.generation or wrapped.key_identifier is None or key is None:
            raise StaleError
        target = KeyTarget(key.identity, wanted.tenant, wrapped.key_identifier)
        try:
            return await self._account_keys.open(wrapped, target)
        except VaultRefusedError as error:
            if isinstance(error.answer, Refused) and error.answer.kind is RefusalKind.ACCESS_DENIED:
                raise await self._admission.lacking(target, UNWRAP) from None
            raise


def _refused(account: Account, message: str, hint: str) -> Result:
    return Result(account.id, Action.REFUSED, message, hint)
