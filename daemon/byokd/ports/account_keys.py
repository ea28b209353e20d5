"""Wrapped account keys: moved to newer versions, damaged and repaired, and what is left of former ones."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from byokd.domain.identifiers import AccountId, WatchId
from byokd.records import Rewrapped, RewrapQueue, RewrapWork, Settled, WrappedKey


class AccountKeyStore(Protocol):
    """Wrapped account keys. Each method is one transaction; see `Store`."""

    async def wrapped_key(self, account: AccountId) -> WrappedKey | None:
        """Give the current wrapped account key."""
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
