"""Brings accounts to what an operator wants: creates, changes, deletes. Idempotent; one account at a time."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import structlog

from byokd.domain.accounts import Account, AccountSpec
from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, VaultHost, WatchId
from byokd.domain.payload import Payload, PayloadInvalidError
from byokd.domain.verdict import WatchWarning
from byokd.domain.vocabulary import Reason, State
from byokd.domain.warn import of_purging
from byokd.ports import (
    Clock,
    ExistsError,
    Ids,
    KeyService,
    KeyTarget,
    Randomness,
    SealBrokenError,
    ServiceKeyMissingError,
    StaleError,
    Store,
)
from byokd.records import KeyPlacement, NewVersion
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError, WrapUnprovenError, rebound
from byokd.runtime.checker import Round, prove

TRIES = 3
"""How often to start again when something changed between reading and writing; more is a fight, not a coincidence."""

_log = structlog.get_logger()


class Action(StrEnum):
    """What became of an account that was asked for."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one account; `message` and `hint` say why it was refused.

    `warnings` tell what is amiss with the key that it came to, each its kind and a sentence. They refuse nothing.
    """

    account: AccountId
    action: Action
    message: str = ""
    hint: str = ""
    warnings: tuple[str, ...] = ()


class AccountRefusedError(Exception):
    """The account cannot be brought to what is wanted; nothing of it was changed."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Silences:
    """Who gave no answer a moment ago: whoever asks again would wait for another deadline."""

    def __init__(self) -> None:
        self._vaults: set[VaultHost] = set()
        self._tokens: set[tuple[IdentityName, TenantId]] = set()

    @contextmanager
    def heeded(self, target: KeyTarget) -> Iterator[None]:
        """Ask the vault of `target` inside; a lack of an answer is remembered.

        Raises:
            AccountRefusedError: it gave no answer before; it is not asked again.
        """
        again = "nothing was changed; apply again when it answers"
        if target.key.host in self._vaults:
            raise AccountRefusedError("not tried: the vault did not answer a moment ago", hint=again)
        if (target.identity, target.tenant) in self._tokens:
            raise AccountRefusedError("not tried: there was no token for the identity a moment ago", hint=again)
        try:
            yield
        except VaultRefusedError as error:
            self._remember(target, error.answer)
            raise

    def _remember(self, target: KeyTarget, answer: Refused | NoAnswer) -> None:
        if not isinstance(answer, NoAnswer):
            return
        if answer.reason is Reason.TOKEN_UNAVAILABLE:
            self._tokens.add((target.identity, target.tenant))
        else:
            self._vaults.add(target.key.host)


@dataclass(frozen=True, slots=True)
class _Destination:
    """A version to wrap with; `first` proves it when the watch does not exist yet."""

    target: KeyTarget
    first: NewVersion | None
    warnings: tuple[WatchWarning, ...]


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done, and what is amiss with the key that the account came to."""

    action: Action
    warnings: tuple[WatchWarning, ...] = ()


class Registrar:
    """Creates, changes and deletes accounts."""

    def __init__(
        self,
        store: Store,
        keys: KeyService,
        account_keys: AccountKeys,
        *,
        clock: Clock,
        randomness: Randomness,
        ids: Ids,
        deadline: timedelta,
        on_change: Callable[[WatchId | None], Awaitable[None]],
    ) -> None:
        """Take the collaborators; `on_change` is awaited after a commit with the watch that it touched."""
        self._store = store
        self._keys = keys
        self._account_keys = account_keys
        self._clock = clock
        self._randomness = randomness
        self._ids = ids
        self._deadline = deadline
        self._on_change = on_change

    async def apply(self, spec: AccountSpec, silences: Silences | None = None) -> Result:
        """Create the account, change it, or find that it is as wanted already.

        Args:
            spec: the account as wanted.
            silences: who gave no answer while accounts before this one were applied; added to.

        Raises:
            StoreUnavailableError: whether anything was changed is unknown.
        """
        try:
            done = await self._insist(spec, silences or Silences())
            warnings = tuple(f"{warning.kind}: {warning.message}" for warning in done.warnings)
            return Result(spec.id, done.action, warnings=warnings)
        except (AccountRefusedError, VaultRefusedError) as error:
            return Result(spec.id, Action.REFUSED, str(error), error.hint)
        except (WrapUnprovenError, PayloadInvalidError, SealBrokenError, ServiceKeyMissingError) as error:
            return Result(
                spec.id, Action.REFUSED, str(error), "nothing was changed; ask for help with the message above"
            )

    async def delete(self, account: AccountId) -> bool:
        """Erase an account, its wrapped key and, when unused, its watch; false when it was not there."""
        before = await self._store.account(account)
        deleted = await self._store.delete_account(account, now=self._clock.now())
        if deleted:
            _log.info("account-deleted", account=str(account))
            await self._on_change(None if before is None else before.watch)
        return deleted

    async def _insist(self, spec: AccountSpec, silences: Silences) -> _Done:
        for _ in range(TRIES):
            try:
                done = await self._apply(spec, silences)
            except (StaleError, ExistsError):
                continue
            if done.action is not Action.UNCHANGED:
                _log.info("account-applied", account=str(spec.id), action=done.action)
            return done
        raise AccountRefusedError("the account kept changing while it was applied", hint="apply it again")

    async def _apply(self, spec: AccountSpec, silences: Silences) -> _Done:
        present = await self._store.account(spec.id)
        if present is None:
            return await self._create(spec, silences)
        if present.spec == spec:
            return _Done(Action.UNCHANGED)
        return await self._update(present, spec, silences)

    async def _create(self, spec: AccountSpec, silences: Silences) -> _Done:
        placement, warnings = await self._placement(spec, self._account_keys.make(spec.id), silences)
        created = await self._store.create_account(spec, placement, incarnation=self._ids.new(), now=self._clock.now())
        await self._on_change(created.watch)
        return _Done(Action.CREATED, warnings)

    async def _update(self, present: Account, spec: AccountSpec, silences: Silences) -> _Done:
        if present.state is State.INACCESSIBLE:
            raise AccountRefusedError(
                f"the account is Inaccessible: {present.message}",
                hint="restore access to its present key first; until then only showing, listing and deleting work",
            )
        if present.spec.tenant != spec.tenant:
            raise AccountRefusedError(
                "the tenant of an account is pinned at registration", hint="delete the account and create it anew"
            )
        placement: KeyPlacement | None = None
        warnings: tuple[WatchWarning, ...] = ()
        if present.spec.customer_key != spec.customer_key:
            payload = await self._open(present, silences)
            placement, warnings = await self._placement(spec, rebound(payload, spec.id), silences)
        changed = await self._store.update_account(present, spec, placement, now=self._clock.now())
        for watch in dict.fromkeys((present.watch, changed.watch)):
            await self._on_change(watch)
        return _Done(Action.UPDATED, warnings)

    async def _open(self, account: Account, silences: Silences) -> Payload:
        wrapped = await self._store.wrapped_key(account.id)
        if wrapped is None or wrapped.generation != account.generation:
            raise StaleError
        opener = _opener(account, wrapped.key_identifier)
        if opener is None:
            return await self._account_keys.open(wrapped, None)
        with silences.heeded(opener):
            return await self._account_keys.open(wrapped, opener)

    async def _placement(
        self, spec: AccountSpec, payload: Payload, silences: Silences
    ) -> tuple[KeyPlacement, tuple[WatchWarning, ...]]:
        if spec.customer_key is None:
            return KeyPlacement(None, await self._account_keys.place(payload, spec.id, None), None), ()
        wanted = KeyTarget(spec.customer_key.identity, spec.tenant, spec.customer_key.key)
        with silences.heeded(wanted):
            destination = await self._destination(wanted)
            sealed = await self._account_keys.place(payload, spec.id, destination.target)
        return KeyPlacement(destination.target.key, sealed, destination.first), destination.warnings

    async def _destination(self, target: KeyTarget) -> _Destination:
        """Find the version to wrap with: the watch's current one, or the newest, proved now."""
        watch = await self._store.find_watch(target)
        if watch is not None:
            return _Destination(_at(target, watch.key.at(watch.current_version.version)), None, watch.warnings)
        calls = Round(self._keys, self._clock, deadline=self._deadline)
        facts = await calls.get(target)
        if isinstance(facts, Refused | NoAnswer):
            raise VaultRefusedError("look at the key", facts)
        if (unfit := facts.unfit_for_registration()) is not None:
            raise AccountRefusedError(
                f"KeyTypeUnsupported: {unfit}", hint="create an RSA key of 2048, 3072 or 4096 bits, in software or HSM"
            )
        if (unfit := facts.unfit_for_wrapping(self._clock.now())) is not None:
            raise AccountRefusedError(unfit, hint="make the key's newest version fit for wrapKey and unwrapKey")
        exact = _at(target, target.key.at(facts.version))
        probe = await prove(calls, exact, self._randomness)
        if isinstance(probe, Refused | NoAnswer):
            raise VaultRefusedError("wrap and unwrap with the key", probe)
        warning = of_purging(facts)
        return _Destination(exact, NewVersion(facts, probe), () if warning is None else (warning,))


def _opener(account: Account, key: KeyIdentifier | None) -> KeyTarget | None:
    customer_key = account.spec.customer_key
    if customer_key is None or key is None:
        return None
    return KeyTarget(customer_key.identity, account.spec.tenant, key)


def _at(target: KeyTarget, key: KeyIdentifier) -> KeyTarget:
    return KeyTarget(target.identity, target.tenant, key)
