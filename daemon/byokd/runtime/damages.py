"""Damaged accounts: their own record does not open although the vault still unwraps with its version.

Found by whoever meets such a record, decided here by a live look, and ended by nothing but a proof. It is no denial:
the account's state stays what the verdict says, and no other account is touched.
"""

import hashlib
import hmac
from collections.abc import Callable
from datetime import timedelta

import structlog

from byokd.domain.accounts import Account, Damage
from byokd.domain.answers import Refused
from byokd.domain.identifiers import AccountId, WrappingVersionId
from byokd.domain.payload import PayloadInvalidError
from byokd.domain.vocabulary import RefusalKind
from byokd.ports import (
    Clock,
    KeyService,
    KeyTarget,
    SealBrokenError,
    ServiceKeyMissingError,
    Store,
    StoreUnavailableError,
)
from byokd.records import WrappedKey
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError
from byokd.runtime.rounds import Round

_FAILURES = (VaultRefusedError, PayloadInvalidError, SealBrokenError, ServiceKeyMissingError)
_log = structlog.get_logger()


def does_not_open(error: Exception) -> bool:
    """Tell whether a failure to open a record may be the record's own: neither a refusal of the key nor a silence."""
    if isinstance(error, VaultRefusedError):
        return isinstance(error.answer, Refused) and error.answer.kind is RefusalKind.BAD_REQUEST
    return isinstance(error, PayloadInvalidError | SealBrokenError)


class Damages:
    """Decides whether an account is damaged, notes it once, and notes the proof that it is not any more."""

    def __init__(
        self,
        store: Store,
        keys: KeyService,
        account_keys: AccountKeys,
        *,
        clock: Clock,
        deadline: timedelta,
        on_denial: Callable[[KeyTarget], None],
        on_opened: Callable[[WrappingVersionId], None],
        on_change: Callable[[], None],
    ) -> None:
        """Take the collaborators.

        Args:
            store: where it is noted.
            keys: opens probes, on new connections: one odd answer must not be met twice.
            account_keys: opens records, in the same way.
            clock: for deadlines and times.
            deadline: for the look at a probe.
            on_denial: told of a version whose probe comes back as something else.
            on_opened: told of a version whose probe opens.
            on_change: called after events were committed.
        """
        self._store = store
        self._keys = keys
        self._account_keys = account_keys
        self._clock = clock
        self._deadline = deadline
        self._on_denial = on_denial
        self._on_opened = on_opened
        self._on_change = on_change

    async def look_into(self, wrapped: WrappedKey) -> Damage | None:
        """Look live whether a record is damaged that somebody found not to open, note it, and give the damage.

        It is, if the probe of its version opens, and then the record once more does not; of one under the system key,
        if it does not open twice. Where the probe does not open it is the check's business, and nothing is noted.

        Raises:
            StoreUnavailableError: the outcome is unknown.
        """
        try:
            return await self._look(wrapped)
        except StoreUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - a vault's odd answer must stop nobody who met a record that does not open
            _log.exception("damage-look-failed", account=str(wrapped.account))
            return None

    async def missing(self, account: AccountId) -> None:
        """Note that there is no record of an account's key at all: nothing has to be asked for that.

        Raises:
            StoreUnavailableError: the outcome is unknown.
        """
        await self._note(account, None, "its record is not there")

    async def opened(self, wrapped: WrappedKey) -> None:
        """Note that the present record of a damaged account was proved to open.

        Raises:
            StoreUnavailableError: the outcome is unknown.
        """
        if await self._store.account_repaired(wrapped, now=self._clock.now()):
            _log.info("account-repaired", account=str(wrapped.account))
            self._on_change()

    async def try_again(self, account: Account) -> None:
        """Try the record of a damaged account on an operator's word, and note it if it opens.

        Raises:
            StoreUnavailableError: the outcome is unknown.
        """
        wrapped = await self._store.wrapped_key(account.id)
        if account.damage is not None and wrapped is not None and await self._failure(account, wrapped) is None:
            await self.opened(wrapped)

    async def _look(self, wrapped: WrappedKey) -> Damage | None:
        account = await self._store.account(wrapped.account)
        if account is None or account.generation != wrapped.generation:
            return None
        if account.damage is not None:
            return account.damage
        if account.current is not None and not await self._probe_opens(account):
            return None
        failure = await self._failure(account, wrapped)
        if failure is None or not does_not_open(failure):
            return None
        return await self._note(account.id, wrapped, _in_words(failure))

    async def _probe_opens(self, account: Account) -> bool:
        watch = None if account.watch is None else await self._store.watch(account.watch)
        version = next((one for one in watch.versions if one.id == account.wrapping_version), None) if watch else None
        if watch is None or version is None:
            return False
        target = KeyTarget(watch.identity, watch.tenant, watch.key.at(version.version))
        answer = await Round(self._keys, self._clock, deadline=self._deadline).unwrap(target, version.probe.wrapped)
        if not isinstance(answer, bytes):
            return False
        opens = hmac.compare_digest(hashlib.sha256(answer).digest(), version.probe.digest)
        if opens:
            self._on_opened(version.id)
        else:
            self._on_denial(target)
        return opens

    async def _failure(self, account: Account, wrapped: WrappedKey) -> Exception | None:
        """Open the record, forget what was inside, and say why it does not open if it does not."""
        customer_key, target = account.spec.customer_key, None
        if customer_key is not None and wrapped.key_identifier is not None:
            target = KeyTarget(customer_key.identity, account.spec.tenant, wrapped.key_identifier)
        try:
            await self._account_keys.open(wrapped, target)
        except _FAILURES as error:
            return error
        return None

    async def _note(self, account: AccountId, wrapped: WrappedKey | None, message: str) -> Damage | None:
        now = self._clock.now()
        if not await self._store.account_damaged(account, wrapped, message, now=now):
            return None
        _log.error("account-damaged", account=str(account), why=message)
        self._on_change()
        return Damage(now, message)


def _in_words(error: Exception) -> str:
    if isinstance(error, VaultRefusedError):
        return "the vault cannot unwrap it: it is not what this version of the key wrapped"
    return str(error)
