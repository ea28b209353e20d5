"""What is stored under the service's own keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from byokd.domain.identifiers import AccountId
from byokd.records import Resealed, Rotation, SealedValue, SealUse, StoredKey, WrappedKey


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
