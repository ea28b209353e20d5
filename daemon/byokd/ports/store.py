"""What byokd knows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from byokd.domain.accounts import Account, AccountSpec
from byokd.domain.chain import Heads
from byokd.domain.decide import Decision
from byokd.domain.identifiers import AccountId, VaultHost, WatchId, WrappingVersionId
from byokd.domain.values import ValueInfo, ValueRef
from byokd.domain.verdict import Watch
from byokd.ports.brake import BrakeStore
from byokd.ports.requirements import RequirementStore
from byokd.ports.vault import KeyTarget
from byokd.records import (
    Census,
    Claim,
    Dossier,
    Doubt,
    Failing,
    Gate,
    HeldVault,
    KeyPlacement,
    OutboxRow,
    ProtectedValue,
    Resealed,
    Rewrapped,
    RewrapQueue,
    RewrapWork,
    Rotation,
    SealedValue,
    SealUse,
    Settled,
    StoredKey,
    WrappedKey,
)


class StoreUnavailableError(Exception):
    """The database cannot be used now (gone, locked, read-only, full). The message says which, and a hint."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class StaleError(Exception):
    """A guarded update touched no row: somebody else was first. Read again; nothing was written."""


class ExistsError(Exception):
    """The account is there already; nothing was written."""


class IdentityTakenError(Exception):
    """The identity serves accounts of another customer tenant, and is not shared; nothing was written."""


class TooManyError(Exception):
    """The account has as many values as it may have; nothing was written."""


class SealedStore(Protocol):
    """What is stored under the service's own keys. Each method is one transaction; see `Store`.

    Pages are in an order of their own that does not change: `after` is the last item of the page before.
    """

    async def service_key_checks(self) -> Mapping[tuple[str, str], bytes]:
        """Give the recorded check values of service keys, by kind and id."""
        ...

    async def seal_uses(self) -> Sequence[SealUse]:
        """Give how much is sealed under which storage and system keys, by their ids."""
        ...

    async def stored_keys(self, *, after: WrappedKey | None, limit: int) -> Sequence[StoredKey]:
        """Give a page of all wrapped account keys, current and superseded; those of an account follow one another."""
        ...

    async def accounts_without_key(self, *, after: AccountId | None, limit: int) -> Sequence[AccountId]:
        """Give a page of the accounts whose present account key has no record. There is none unless rows were lost."""
        ...

    async def values_of(self, account: AccountId, *, after: SealedValue | None, limit: int) -> Sequence[SealedValue]:
        """Give a page of an account's protected values."""
        ...

    async def values_among(
        self, accounts: Sequence[AccountId], *, after: SealedValue | None, limit: int
    ) -> Sequence[SealedValue]:
        """Give a page of the protected values of some hundred accounts; those of an account follow one another."""
        ...

    async def keys_sealed_by(self, use: SealUse, *, after: WrappedKey | None, limit: int) -> Sequence[WrappedKey]:
        """Give a page of the wrapped keys that exactly these keys sealed."""
        ...

    async def values_sealed_by(self, use: SealUse, *, after: SealedValue | None, limit: int) -> Sequence[SealedValue]:
        """Give a page of the protected values that this storage key sealed; nothing where a system key is named."""
        ...

    async def commit_reseal(self, resealed: Sequence[Resealed]) -> None:
        """Replace what was read by what seals the same anew: all of it or nothing.

        Guarded, row by row, by the very bytes and ids that were read.
        """
        ...

    async def rotation(self) -> Rotation | None:
        """Give the last rotation that was ordered."""
        ...

    async def begin_rotation(self, *, storage_key: str, system_key: str, now: datetime) -> Rotation:
        """Order a rotation to these keys; one to the same keys that goes on already is given as it is."""
        ...

    async def end_rotation(self, rotation: Rotation, *, stuck: int, now: datetime) -> None:
        """Note that nothing more can be done. Then what was replaced is gone from the files too.

        Guarded by the rotation still going on.
        """
        ...


class Store(SealedStore, BrakeStore, RequirementStore, Protocol):
    """What byokd knows. Each method is one transaction; state and its events are committed together.

    Obligations: every method may raise StoreUnavailableError, after which the outcome of a write is unknown and must be
    read again. Guarded updates check their row counts and raise StaleError, having written nothing. `now` is stored as
    given. Events get numbers in the order of commitment and, for accounts, sequences without gaps.
    """

    async def ping(self) -> None:
        """Prove that the database can be written, has the current schema and is the one that was opened."""
        ...

    async def identity(self) -> str:
        """Give the id of this database: made with it, and no other has it but its copies."""
        ...

    async def claim_vaults(self, instance: str) -> int:
        """Take every vault for this replica under a new epoch; give their number."""
        ...

    async def watches(self) -> Sequence[Watch]:
        """Give every watch that has accounts."""
        ...

    async def watch(self, watch: WatchId) -> Watch | None:
        """Give one watch; None when no account uses it any more."""
        ...

    async def find_watch(self, target: KeyTarget) -> Watch | None:
        """Give the watch of exactly this identity, tenant and key identifier."""
        ...

    async def commit_decision(
        self, watch: Watch, decision: Decision, *, now: datetime, brake_revision: int | None = None
    ) -> Watch:
        """Write verdicts, adoption, warnings, key events and due time; give the watch as it is now.

        Guarded by the watch's revision and the vault's epoch as in `watch`, and by the brake's revision where it was
        consulted: it must not have been engaged, or released, meanwhile.
        """
        ...

    async def record_due(self, due: Mapping[WatchId, datetime]) -> None:
        """Write due times of checks that found nothing new, in one batch."""
        ...

    async def failing_vaults(self) -> Mapping[VaultHost, Failing]:
        """Give the vaults that failed or throttled when they were last asked."""
        ...

    async def record_failing(self, found: Mapping[HeldVault, Failing | None]) -> None:
        """Write how vaults are, in one batch; None: they answer. Those of another epoch are passed over."""
        ...

    async def follow(self, *, limit: int, now: datetime) -> int:
        """Carry changed verdicts to at most `limit` accounts, with their events; give how many were carried."""
        ...

    async def rewrap_queues(self, *, now: datetime) -> Sequence[RewrapQueue]:
        """Give the watches with accounts to rewrap that are due, the longest adopted first.

        None whose old or new version is denied, suspected or unverified: a vault that does not answer checks is not
        asked for more.
        """
        ...

    async def rewrap_work(self, *, limit: int, now: datetime, watch: WatchId | None = None) -> Sequence[RewrapWork]:
        """Give accounts to rewrap that are due, of one watch or of all, oldest first; as `rewrap_queues` selects.

        Of one watch, those that were never tried come before those that are tried again.
        """
        ...

    async def commit_rewraps(self, moved: Sequence[Rewrapped], *, now: datetime) -> frozenset[AccountId]:
        """Replace wrapped keys (generation + 1), keep the previous ones as superseded, write `rewrapped` of each.

        Some hundreds in one transaction. Guarded, one by one, by the account's incarnation and generation, and by the
        target still being the watch's current version and not denied: what is stale is left out and holds up none of
        the others. StaleError means that nothing was written: somebody else was at work on the same rows.

        Returns:
            the accounts whose keys were moved.
        """
        ...

    async def rewrap_failed(self, work: RewrapWork, message: str, *, now: datetime, retry_at: datetime) -> None:
        """Count the attempt and write `rewrap-failed`. The first attempt's and every doubling's is published."""
        ...

    async def account_damaged(
        self, account: AccountId, wrapped: WrappedKey | None, message: str, *, now: datetime
    ) -> bool:
        """Note that the account's present key does not open, with `damaged`; false when nothing was written.

        Guarded by the very record that was tried being the present one still (None: there is none), and by the account
        not being damaged already.
        """
        ...

    async def account_repaired(self, wrapped: WrappedKey, *, now: datetime) -> bool:
        """Note that the present key of a damaged account does open, with `repaired`; guarded alike.

        Whatever replaces the key of a damaged account by one that was proved writes `repaired` too.
        """
        ...

    async def settle(self, *, before: datetime, now: datetime) -> Settled:
        """Erase wraps superseded before that time; retire versions that nothing refers to, with `version-retired`.

        A superseded wrap waits while its account's current one may not open: its version is denied, suspected or
        unverified, or the account is damaged. A vault that failed over to an older copy must not cost the key. Many
        wraps are erased in several transactions, each whole by itself.
        """
        ...

    async def account(self, account: AccountId) -> Account | None:
        """Give one account."""
        ...

    async def accounts(self, *, name: str | None = None) -> Sequence[Account]:
        """Give all accounts, or those of this name, by id."""
        ...

    async def doubts(self) -> Mapping[WrappingVersionId, Doubt]:
        """Give what is amiss with the versions that are in doubt; there are few, unless much is amiss."""
        ...

    async def wrapped_key(self, account: AccountId) -> WrappedKey | None:
        """Give the current wrapped account key."""
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

    async def unpublished(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        """Give unpublished events with a number above `after`, in order."""
        ...

    async def mark_published(self, numbers: Sequence[int], *, now: datetime) -> None:
        """Note that the broker acknowledged these events."""
        ...

    async def contiguous(self) -> int:
        """Give the number up to which every event is published; 0 when none is."""
        ...

    async def resend(self, *, after: int | None, since: datetime) -> int:
        """Make events unpublished again that the broker has lost; give how many.

        `after` is the number of the last event that it is known to have. Of what came later, everything since that time
        is sent again, and of each account's older events only the last, which carries the whole state. Without such a
        number, or with one that was never given, the last event of every account, also of those deleted since: what
        a broker still retains of them must be emptied. What is sent again of one account never ends with an older
        event than it had before, as long as nobody publishes meanwhile.
        """
        ...

    async def forget(self, *, before: datetime, limit: int) -> int:
        """Delete at most `limit` published events from before that time, oldest first; give how many were deleted.

        However old, these stay: unpublished events, the last event of each account that exists (its state may have to
        be sent again), the last event of all (its number tells what has been given), and what follows a kept event in
        its stream: the chain of a stream is only shortened from its beginning.
        """
        ...

    async def history(self, *, after: int, limit: int, stream: str | None = None) -> Sequence[OutboxRow]:
        """Give events with a number above `after`, published or not, in order: all, or those of one stream."""
        ...

    async def number_before(self, since: datetime) -> int:
        """Give the number after which the first event of that time or later comes; the last one's when none does."""
        ...

    async def heads(self) -> Heads:
        """Give the heads of all streams at this moment."""
        ...

    async def untold_since(self) -> datetime | None:
        """Give since when heads were not recorded: the time of the last record, or of the first event without one.

        None when nothing happened since.
        """
        ...

    async def record_heads(self, heads: Heads, *, now: datetime) -> None:
        """Write `audit-heads`."""
        ...

    async def service_key_checks(self) -> Mapping[tuple[str, str], bytes]:
        """Give the recorded check values of service keys, by kind and id."""
        ...

    async def record_service_key_checks(self, checks: Mapping[tuple[str, str], bytes]) -> None:
        """Record the check values that are missing.

        Raises:
            StaleError: another value is recorded under one of these; nothing was written.
        """
        ...

    async def census(self) -> Census:
        """Count."""
        ...

    async def dossier(self, account: AccountId, *, most: int) -> Dossier | None:
        """Give what explains how an account is, with at most `most` events; None when there is no such account."""
        ...
