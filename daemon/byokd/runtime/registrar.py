"""Brings accounts to what an operator wants: creates, changes, deletes. Idempotent; one account at a time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from byokd.domain.accounts import Account, AccountSpec
from byokd.domain.admission import Consent
from byokd.domain.identifiers import AccountId, KeyIdentifier, WatchId
from byokd.domain.payload import Payload, PayloadInvalidError
from byokd.domain.verdict import WatchWarning
from byokd.domain.vocabulary import State
from byokd.ports import (
    Clock,
    ExistsError,
    IdentityTakenError,
    Ids,
    KeyTarget,
    SealBrokenError,
    ServiceKeyMissingError,
    StaleError,
    Store,
    StoreUnavailableError,
)
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError, WrapUnprovenError, rebound
from byokd.runtime.admission import Admission, Placed, taken
from byokd.runtime.silences import AccountRefusedError, Silences

TRIES = 3
"""How often to start again when something changed between reading and writing; more is a fight, not a coincidence."""

_log = structlog.get_logger()


class Action(StrEnum):
    """What became of an account that was asked for."""

    CREATED = "created"
    UPDATED = "updated"
    REPAIRED = "repaired"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one account; `message` and `hint` say why it was refused, `commands` what mends that.

    `warnings` tell what is amiss with the key that it came to, each its kind and a sentence. They refuse nothing.
    `missing` are the permissions that its identity lacks; with a fresh grant, not for long.
    """

    account: AccountId
    action: Action
    message: str = ""
    hint: str = ""
    warnings: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, and what is amiss with the key that the account came to."""

    action: Action
    warnings: tuple[WatchWarning, ...] = ()


async def insist(account: AccountSpec, attempt: Callable[[], Awaitable[Done]]) -> Result:
    """Do what changes an account, again where somebody else was quicker; refusals become results.

    Raises:
        StoreUnavailableError: whether anything was changed is unknown.
    """
    try:
        for _ in range(TRIES):
            try:
                done = await attempt()
            except (StaleError, ExistsError):
                continue
            warnings = tuple(f"{warning.kind}: {warning.message}" for warning in done.warnings)
            return Result(account.id, done.action, warnings=warnings)
    except IdentityTakenError:
        return _refused(account, taken(account))
    except AccountRefusedError as error:
        return _refused(account, error)
    except VaultRefusedError as error:
        return Result(account.id, Action.REFUSED, str(error), error.hint)
    except (WrapUnprovenError, PayloadInvalidError, SealBrokenError, ServiceKeyMissingError) as error:
        hint = "nothing was changed; ask for help with the message above"
        return Result(account.id, Action.REFUSED, str(error), hint)
    return Result(account.id, Action.REFUSED, "the account kept changing while it was applied", "apply it again")


class Registrar:
    """Creates, changes and deletes accounts."""

    def __init__(
        self,
        store: Store,
        account_keys: AccountKeys,
        admission: Admission,
        *,
        clock: Clock,
        ids: Ids,
        on_change: Callable[[WatchId | None], Awaitable[None]],
        on_doubt: Callable[[], None],
    ) -> None:
        """Take the collaborators.

        `on_change` is awaited after a commit with the watch that it touched; `on_doubt` is called when it is not known
        whether there was one.
        """
        self._store = store
        self._account_keys = account_keys
        self._admission = admission
        self._clock = clock
        self._ids = ids
        self._on_change = on_change
        self._on_doubt = on_doubt

    async def apply(
        self, spec: AccountSpec, silences: Silences | None = None, *, consent: Consent = Consent.NONE
    ) -> Result:
        """Create the account, change it, or find that it is as wanted already.

        Args:
            spec: the account as wanted.
            silences: who gave no answer while accounts before this one were applied; added to.
            consent: what else than a tag shows that its key may be used for it.

        Raises:
            StoreUnavailableError: whether anything was changed is unknown.
        """
        heard = silences or Silences()
        try:
            result = await insist(spec, lambda: self._apply(spec, heard, consent))
        except StoreUnavailableError:
            self._on_doubt()
            raise
        if result.action not in {Action.UNCHANGED, Action.REFUSED}:
            _log.info("account-applied", account=str(spec.id), action=result.action)
        return result

    async def delete(self, account: AccountId) -> bool:
        """Erase an account, its wrapped key and, when unused, its watch; false when it was not there."""
        before = await self._store.account(account)
        deleted = await self._store.delete_account(account, now=self._clock.now())
        if deleted:
            _log.info("account-deleted", account=str(account))
            await self._on_change(None if before is None else before.watch)
        return deleted

    async def _apply(self, spec: AccountSpec, silences: Silences, consent: Consent) -> Done:
        present = await self._store.account(spec.id)
        if present is None:
            return await self._create(spec, silences, consent)
        if present.spec == spec:
            return Done(Action.UNCHANGED)
        return await self._update(present, spec, silences, consent)

    async def _create(self, spec: AccountSpec, silences: Silences, consent: Consent) -> Done:
        await self._admission.refuse_taken(spec)
        placed = await self._admission.place(spec, self._account_keys.make(spec.id), silences, consent)
        created = await self._store.create_account(
            spec,
            placed.placement,
            incarnation=self._ids.new(),
            now=self._clock.now(),
            claim=self._admission.claim(spec),
        )
        await self._on_change(created.watch)
        return Done(Action.CREATED, placed.warnings)

    async def _update(self, present: Account, spec: AccountSpec, silences: Silences, consent: Consent) -> Done:
        if present.state is State.INACCESSIBLE:
            raise AccountRefusedError(
                f"the account is Inaccessible: {present.message}",
                hint="restore access to its present key first; until then only showing, listing and deleting work",
            )
        if present.spec.tenant != spec.tenant:
            raise AccountRefusedError(
                "the tenant of an account is pinned at registration", hint="delete the account and create it anew"
            )
        placed: Placed | None = None
        if present.spec.identity != spec.identity:
            await self._admission.refuse_taken(spec)
        if present.spec.customer_key != spec.customer_key:
            payload = await self._open(present, silences)
            placed = await self._admission.place(spec, rebound(payload, spec.id), silences, consent)
        elif present.spec.location != spec.location:
            await self._admission.refuse_elsewhere(spec)
        changed = await self._store.update_account(
            present,
            spec,
            None if placed is None else placed.placement,
            now=self._clock.now(),
            claim=self._admission.claim(spec),
        )
        for watch in dict.fromkeys((present.watch, changed.watch)):
            await self._on_change(watch)
        return Done(Action.UPDATED, () if placed is None else placed.warnings)

    async def _open(self, account: Account, silences: Silences) -> Payload:
        wrapped = await self._store.wrapped_key(account.id)
        if wrapped is None or wrapped.generation != account.generation:
            raise StaleError
        opener = _opener(account, wrapped.key_identifier)
        if opener is None:
            return await self._account_keys.open(wrapped, None)
        with silences.heeded(opener):
            return await self._account_keys.open(wrapped, opener)


def _refused(account: AccountSpec, error: AccountRefusedError) -> Result:
    return Result(account.id, Action.REFUSED, str(error), error.hint, commands=error.commands, missing=error.missing)


def _opener(account: Account, key: KeyIdentifier | None) -> KeyTarget | None:
    customer_key = account.spec.customer_key
    if customer_key is None or key is None:
        return None
    return KeyTarget(customer_key.identity, account.spec.tenant, key)
