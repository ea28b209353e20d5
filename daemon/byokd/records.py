"""What the store takes and gives: values of several rows, each a snapshot of one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from byokd.domain.accounts import Account, JsonValue
from byokd.domain.answers import KeyFacts
from byokd.domain.identifiers import AccountId, KeyIdentifier, WatchId
from byokd.domain.verdict import Probe
from byokd.domain.vocabulary import State


@dataclass(frozen=True, slots=True, repr=False)
class WrappedKey:
    """The current wrapped account key, sealed with the storage key.

    `key_identifier` is the exact versioned identifier that wrapped it; None under the system key.
    """

    account: AccountId
    generation: int
    key_identifier: KeyIdentifier | None
    sealed: bytes

    def __repr__(self) -> str:
        return f"WrappedKey({self.account.name}, generation={self.generation})"


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that has just proved itself: what a watch is made from."""

    facts: KeyFacts
    probe: Probe


@dataclass(frozen=True, slots=True, repr=False)
class KeyPlacement:
    """Where a new or moved account key goes.

    Attributes:
        key_identifier: the versioned identifier that wrapped it; None with the system key.
        sealed: the wrapped key, sealed.
        first_version: proof of that version when the watch does not exist yet; the transaction makes the watch.
    """

    key_identifier: KeyIdentifier | None
    sealed: bytes
    first_version: NewVersion | None

    def __repr__(self) -> str:
        return f"KeyPlacement({self.key_identifier})"


@dataclass(frozen=True, slots=True)
class RewrapWork:
    """An account whose key is to be moved to its watch's current version, off a version that is usable."""

    account: Account
    wrapped: WrappedKey
    target: KeyIdentifier
    attempts: int


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event that is not known to have reached the broker.

    Attributes:
        number: the order of commitment within its stream; rows of one stream are published in this order.
        stream: topic below the prefix, without `/events`: `accounts/...`, `keys/...` or `service`.
        retained: what becomes of the stream's retained state (`keep` for streams without one).
    """

    number: int
    id: str
    stream: str
    type: str
    time: datetime
    data: Mapping[str, JsonValue]
    retained: "Retained"


class Retained(StrEnum):
    """What an event does to the retained state of its stream."""

    KEEP = "keep"
    SET = "set"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Census:
    """Numbers for health and metrics."""

    accounts: Mapping[State, int]
    watches: int
    vaults: int
    denied_versions: int
    suspected_versions: int
    unverified_versions: int
    unpublished: int
    oldest_unpublished: datetime | None
    rewraps_waiting: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did: how many wraps were erased, and which watches lost a version."""

    erased: int
    watches: frozenset[WatchId]
