"""What the store takes and gives: values of several rows, each a snapshot of one moment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from byokd.domain.accounts import Account, JsonValue
from byokd.domain.answers import KeyFacts
from byokd.domain.brake import Brake
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, VaultHost, WatchId
from byokd.domain.values import ValueRef
from byokd.domain.verdict import Probe, Suspicion, Unverified, Watch
from byokd.domain.vocabulary import Outcome, Reason, State, WarningKind


@dataclass(frozen=True, slots=True, repr=False)
class SealedKey:
    """A wrapped account key under both layers.

    Attributes:
        data: what is stored.
        storage_key: the id of the storage key that sealed it.
        system_key: the id of the system key inside; None where a customer key wraps it.
    """

    data: bytes
    storage_key: str
    system_key: str | None

    def __repr__(self) -> str:
        return f"SealedKey(storage_key={self.storage_key!r}, system_key={self.system_key!r})"


@dataclass(frozen=True, slots=True, repr=False)
class WrappedKey:
    """A wrapped account key as it is stored.

    `key_identifier` is the exact versioned identifier that wrapped it; None under the system key.
    """

    account: AccountId
    generation: int
    key_identifier: KeyIdentifier | None
    sealed: SealedKey

    def __repr__(self) -> str:
        return f"WrappedKey({self.account.name}, generation={self.generation})"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the verdict of the wrapping version says of its use: all that a gate needs of it."""

    outcome: Outcome
    reason: Reason | None
    message: str
    suspicion: Suspicion | None
    number: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is amiss with a wrapping version beside its outcome: a denial that does not count, or no answer, or both."""

    suspicion: Suspicion | None
    unverified: Unverified | None


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides whether an account key may be used, as of one moment. No `standing` under the system key."""

    account: Account
    wrapped: WrappedKey
    standing: Standing | None

    @property
    def is_suspected(self) -> bool:
        """Whether a denial of the wrapping version is stored that awaits its confirmation."""
        return self.standing is not None and self.standing.suspicion is not None


@dataclass(frozen=True, slots=True, repr=False)
class ProtectedValue:
    """A value as it is stored: encrypted with the account key, then sealed by the storage key of that id."""

    ref: ValueRef
    revision: int
    sealed: bytes
    storage_key: str

    def __repr__(self) -> str:
        return f"ProtectedValue({self.ref}, revision={self.revision})"


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
    sealed: SealedKey
    first_version: NewVersion | None

    def __repr__(self) -> str:
        return f"KeyPlacement({self.key_identifier})"


class Claim(StrEnum):
    """For whom an account uses its identity: for its own customer tenant alone, or beside others."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class RewrapQueue:
    """A watch of whose accounts at least one is to be rewrapped now, and the vault that has to do it."""

    watch: WatchId
    host: VaultHost


@dataclass(frozen=True, slots=True)
class RewrapWork:
    """An account whose key is to be moved to its watch's current version, off a version that is usable."""

    account: Account
    wrapped: WrappedKey
    target: KeyIdentifier
    attempts: int


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """A rewrap that only has to be committed: what was to be done, and the new wrap, proved and sealed."""

    work: RewrapWork
    sealed: SealedKey


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event, as it goes to the broker and to those who read the history.

    Attributes:
        number: the order of commitment within its stream; rows of one stream are published in this order.
        stream: topic below the prefix, without `/events`: `accounts/...`, `keys/...` or `service`.
        document: the CloudEvents data as JSON text in ASCII, as it was recorded and signed.
        retained: what becomes of the stream's retained state (`keep` for streams without one).
    """

    number: int
    id: str
    stream: str
    type: str
    time: datetime
    document: str
    retained: "Retained"

    @property
    def data(self) -> Mapping[str, JsonValue]:
        """The CloudEvents data."""
        data: dict[str, JsonValue] = json.loads(self.document)
        return data


class Retained(StrEnum):
    """What an event does to the retained state of its stream."""

    KEEP = "keep"
    SET = "set"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class HeldVault:
    """A vault as its holder knows it: under the epoch that it was claimed with."""

    host: VaultHost
    epoch: int


@dataclass(frozen=True, slots=True)
class Failing:
    """That a vault fails or throttles: why, the present wait (whole milliseconds), and when it is tried again."""

    reason: Reason
    backoff: timedelta
    next_try_at: datetime


@dataclass(frozen=True, slots=True)
class Census:
    """Numbers for health and metrics. `warnings` counts watches, by kind; kinds that none has are missing."""

    accounts: Mapping[State, int]
    watches: int
    vaults: int
    denied_versions: int
    suspected_versions: int
    unverified_versions: int
    unpublished: int
    oldest_unpublished: datetime | None
    rewraps_waiting: int
    held_versions: int = 0
    damaged_accounts: int = 0
    warnings: Mapping[WarningKind, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did: how many wraps were erased, and which watches lost a version."""

    erased: int
    watches: frozenset[WatchId]


@dataclass(frozen=True, slots=True, repr=False)
class SealedValue:
    """A protected value as it is stored: encrypted with the account key, sealed with the storage key of that id."""

    account: AccountId
    kind: str
    name: str
    revision: int
    sealed: bytes
    storage_key: str

    def __repr__(self) -> str:
        return f"SealedValue({self.account.name}, {self.kind!r}, {self.name!r}, revision={self.revision})"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A wrapped account key with who can unwrap it.

    Attributes:
        wrapped: the key.
        tenant: of its account.
        identity: what unwraps with the customer key in `wrapped`; None under the system key.
        superseded: whether it is a former one that is kept for a while.
        damaged: whether its account is known to be damaged.
    """

    wrapped: WrappedKey
    tenant: TenantId
    identity: IdentityName | None
    superseded: bool
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class SealUse:
    """How much is sealed under one storage key, with one system key inside (None: none).

    Attributes:
        keys: wrapped account keys, superseded ones included.
        values: protected values.
    """

    storage_key: str
    system_key: str | None
    keys: int
    values: int


@dataclass(frozen=True, slots=True, repr=False)
class Resealed:
    """What was read, and what is to be stored in its place. A value has no system key."""

    before: WrappedKey | SealedValue
    after: SealedKey

    def __repr__(self) -> str:
        return f"Resealed({self.before!r})"


@dataclass(frozen=True, slots=True)
class Rotation:
    """An order to seal everything anew.

    Attributes:
        number: grows from rotation to rotation.
        storage_key: the id that is to seal everything.
        system_key: the id that is to seal inside, where no customer key does.
        begun_at: when it was ordered.
        ended_at: when nothing more could be done; None while it goes on.
        stuck: how many seals did not open when it ended.
    """

    number: int
    storage_key: str
    system_key: str
    begun_at: datetime
    ended_at: datetime | None
    stuck: int


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """An event with all that it signs, and its signature (docs/operations.md says how it is made)."""

    event: OutboxRow
    account: str | None
    incarnation: str | None
    sequence: int | None
    previous: bytes
    mac: bytes
    audit_key: str


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that explains how an account is, as of one moment.

    Attributes:
        watch: its watch with all versions; None with the system key.
        rewrap_attempts: how often moving its key has failed; 0 when that is not to be done, or was not tried yet.
        rewrap_due_at: when it is tried again.
        rewrap_failure: the last event that told of such a failure.
        events: the last ones of the account, the latest last.
        brake: as it is.
    """

    account: Account
    watch: Watch | None
    rewrap_attempts: int
    rewrap_due_at: datetime | None
    rewrap_failure: OutboxRow | None
    events: tuple[OutboxRow, ...]
    brake: Brake
