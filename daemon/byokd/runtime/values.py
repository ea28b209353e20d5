"""Protected values: written and read with the account key, for as long as the customer's key allows it."""

from collections.abc import Sequence

from byokd.domain.accounts import Account
from byokd.domain.identifiers import AccountId
from byokd.domain.values import ValueInfo, ValueRef
from byokd.ports import (
    AccountCipher,
    Clock,
    SealBrokenError,
    SealContext,
    Sealer,
    ServiceKey,
    ServiceKeyMissingError,
    StaleError,
    Store,
    TooManyError,
)
from byokd.records import Gate, ProtectedValue
from byokd.runtime.plaintext import PlaintextKeys
from byokd.runtime.unusable import RecordDamagedError, UnavailableError, UnusableError, unknown
from byokd.settings import ValueSettings

TRIES = 3
"""How often to begin again when something changed on the way; more is a fight, not a coincidence."""


class ValueUnknownError(UnusableError):
    """The account has no such value."""


class ValueTooLargeError(UnusableError):
    """The value is longer than a value may be, or one more than an account may have."""


class ProtectedValues:
    """Protects, reveals, lists and removes. Nothing here keeps or logs a value or an account key."""

    def __init__(
        self,
        store: Store,
        keys: PlaintextKeys,
        *,
        sealer: Sealer,
        cipher: AccountCipher,
        clock: Clock,
        settings: ValueSettings,
    ) -> None:
        """Take the collaborators."""
        self._store = store
        self._keys = keys
        self._sealer = sealer
        self._cipher = cipher
        self._clock = clock
        self._settings = settings

    async def protect(self, account: AccountId, ref: ValueRef, content: bytes) -> ValueInfo:
        """Write a value, in place of the one of that name if there is one.

        Raises:
            UnusableError: nothing was written; the subclass says why.
            StoreUnavailableError: whether it was written is unknown.
        """
        if len(content) > self._settings.most_bytes:
            raise ValueTooLargeError(
                f"a protected value has at most {self._settings.most_bytes} bytes, this one has {len(content)}",
                hint="protect a key instead, and encrypt the rest with it; the bound is values.most_bytes",
            )
        for _ in range(TRIES):
            gate = await self._keys.gate(account)
            before = await self._store.value(gate.account, ref)
            opened = await self._keys.open(gate)
            revision = 1 if before is None else before.revision + 1
            made = self._sealed(opened.account_key, gate.account, ref, revision, content)
            if not self._keys.is_good(opened):
                continue
            try:
                return await self._store.put_value(
                    gate.account, made, most=self._settings.most_per_account, now=self._clock.now()
                )
            except StaleError:
                continue
            except TooManyError as error:
                hint = "unprotect values that are not needed any more; the bound is values.most_per_account"
                raise ValueTooLargeError(str(error), hint=hint) from None
        raise _restless()

    async def reveal(self, account: AccountId, ref: ValueRef) -> tuple[bytes, int]:
        """Give a value's content and revision.

        Raises:
            UnusableError: it may not or cannot be given; the subclass says why.
            StoreUnavailableError: the store cannot be used.
        """
        for _ in range(TRIES):
            gate = await self._keys.gate(account)
            stored = await self._store.value(gate.account, ref)
            if stored is None:
                raise _no_value(gate.account, ref)
            opened = await self._keys.open(gate)
            content = self._content(opened.account_key, gate, stored)
            if await self._keys.confirm(gate, opened):
                return content, stored.revision
        raise _restless()

    async def list(self, account: AccountId) -> Sequence[ValueInfo]:
        """Tell of an account's values, also while it is Inaccessible.

        Raises:
            AccountUnknownError: there is no such account.
        """
        return await self._store.values(await self._account(account))

    async def remove(self, account: AccountId, ref: ValueRef) -> None:
        """Erase a value, also while the account is Inaccessible: that needs no account key.

        Raises:
            AccountUnknownError, ValueUnknownError: there is nothing to erase.
        """
        found = await self._account(account)
        if not await self._store.remove_value(found, ref):
            raise _no_value(found, ref)

    async def _account(self, account: AccountId) -> Account:
        found = await self._store.account(account)
        if found is None:
            raise unknown(account)
        return found

    def _sealed(
        self, account_key: bytes, account: Account, ref: ValueRef, revision: int, content: bytes
    ) -> ProtectedValue:
        context = _context(account, ref, revision)
        inner = self._cipher.encrypt(account_key, content, context=context)
        sealed = self._sealer.seal(ServiceKey.STORAGE, inner, context=context)
        return ProtectedValue(ref, revision, sealed, self._sealer.sealed_by(sealed))

    def _content(self, account_key: bytes, gate: Gate, stored: ProtectedValue) -> bytes:
        context = _context(gate.account, stored.ref, stored.revision)
        try:
            inner = self._sealer.open(ServiceKey.STORAGE, stored.sealed, context=context)
            return self._cipher.decrypt(account_key, inner, context=context)
        except SealBrokenError as error:
            hint = "keep the database; a backup may hold a good record"
            raise RecordDamagedError(f"the value does not open: {error}", hint=hint) from None
        except ServiceKeyMissingError as error:
            raise UnavailableError(str(error), hint="put the service key back and restart byokd") from None


def _context(account: Account, ref: ValueRef, revision: int) -> SealContext:
    return SealContext(account.id, kind=str(ref.kind), name=str(ref.name), generation=revision, key_identifier="")


def _no_value(account: Account, ref: ValueRef) -> ValueUnknownError:
    return ValueUnknownError(
        f"the account {account.id.name!r} has no protected value {ref}", hint="byokd accounts values shows all names"
    )


def _restless() -> UnavailableError:
    return UnavailableError("the account or its key kept changing meanwhile", hint="try again")
