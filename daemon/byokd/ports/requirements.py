"""What is stored so that ARM can be asked about vaults from time to time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from byokd.domain.identifiers import VaultHost
from byokd.domain.verdict import Watch


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is.

    Attributes:
        vaults: how many there are.
        host: the one that ARM was not asked about for the longest time, of those that are due; None when none is.
    """

    vaults: int
    host: VaultHost | None


@dataclass(frozen=True, slots=True)
class Occupant:
    """A watch of a vault.

    Attributes:
        locations: of its accounts.
        subscriptions: of its accounts; of very many, some.
    """

    watch: Watch
    locations: frozenset[str]
    subscriptions: tuple[str, ...]


class RequirementStore(Protocol):
    """Vaults as ARM is asked about them. Each method is one transaction; see `Store`.

    What follows is committed as any other decision about a watch: `Store.commit_decision`.
    """

    async def next_to_ask(self, *, before: datetime) -> Turn:
        """Give the vault, of those in use, that ARM was not asked about since that time, or never."""
        ...

    async def occupants(self, host: VaultHost) -> Sequence[Occupant]:
        """Give the watches of a vault that have accounts."""
        ...

    async def record_asked(self, host: VaultHost, *, now: datetime) -> None:
        """Note that ARM was asked about a vault; one that is gone is passed over."""
        ...
