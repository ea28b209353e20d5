"""What byokd knows."""

from collections.abc import Mapping
from typing import Protocol

from byokd.domain.identifiers import AccountId
from byokd.ports.account_keys import AccountKeyStore
from byokd.ports.accounts import AccountStore
from byokd.ports.brake import BrakeStore
from byokd.ports.events import EventStore
from byokd.ports.requirements import RequirementStore
from byokd.ports.sealed import SealedStore
from byokd.ports.values import ValueStore
from byokd.ports.watches import WatchStore
from byokd.records import Census, Dossier


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


class Store(
    WatchStore,
    AccountStore,
    AccountKeyStore,
    ValueStore,
    EventStore,
    SealedStore,
    BrakeStore,
    RequirementStore,
    Protocol,
):
    """What byokd knows, by subject. Each method is one transaction; state and its events are committed together.

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
