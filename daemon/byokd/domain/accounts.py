"""Accounts: what an operator asks for, what the store holds, and what the bus is told."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, WatchId, WrappingVersionId
from byokd.domain.verdict import Verdict
from byokd.domain.vocabulary import DetectedBy, EncryptionType, EventType, Outcome, Reason, State

JsonValue = str | int | None


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """What wraps the account key of an account with a customer key: the key and the identity that reaches it."""

    identity: IdentityName
    key: KeyIdentifier


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """An account as an operator wants it.

    Attributes:
        customer_key: None for the system key.
        attached: the identity of an account with the system key, to be granted before a customer key is set; None with
            a customer key, which has one of its own.
    """

    id: AccountId
    tenant: TenantId
    location: str
    customer_key: CustomerKey | None
    attached: IdentityName | None = None

    def __post_init__(self) -> None:
        """Refuse two identities.

        Raises:
            ValueError: there are two.
        """
        if self.customer_key is not None and self.attached is not None:
            raise ValueError("an account has one identity: its customer key's, or one without a key")

    @property
    def identity(self) -> IdentityName | None:
        """The account's identity, whether it has a customer key already or not."""
        return self.attached if self.customer_key is None else self.customer_key.identity


@dataclass(frozen=True, slots=True)
class Damage:
    """The account's own record does not open although its customer's key unwraps. `message` says what does not."""

    since: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the store has it.

    Attributes:
        incarnation: new on every re-creation; orders and deduplicates together with `sequence`.
        sequence: number of the account's last event; grows without gaps.
        generation: of the wrapped account key; only grows.
        current: the versioned identifier that wraps the account key now; None with the system key.
        state: as told to the bus; the gate reads the verdict of `wrapping_version` instead.
        followed: number of the verdict that the state reflects.
        damage: set while its record is known not to open. It changes no state, and only a proof ends it.
    """

    spec: AccountSpec
    incarnation: str
    sequence: int
    generation: int
    watch: WatchId | None
    wrapping_version: WrappingVersionId | None
    current: KeyIdentifier | None
    state: State
    reason: Reason | None
    message: str
    since: datetime
    unverified_since: datetime | None
    followed: int
    created_at: datetime
    updated_at: datetime
    damage: Damage | None = None

    @property
    def id(self) -> AccountId:
        """The account's ARM id."""
        return self.spec.id

    @property
    def encryption(self) -> EncryptionType:
        """Which kind of key wraps the account key."""
        return EncryptionType.SYSTEM_KEY if self.spec.customer_key is None else EncryptionType.CUSTOMER_KEY


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """Something that happened to an account, with its present state: enough for a subscriber that sees only this."""

    type: EventType
    account: Account
    previous_state: State | None
    detected_by: DetectedBy | None
    observed_at: datetime | None
    detail: Mapping[str, JsonValue]

    def data(self) -> dict[str, JsonValue]:
        """Give the CloudEvents data."""
        account = self.account
        customer_key = account.spec.customer_key
        return {
            "account": str(account.id),
            "incarnation": account.incarnation,
            "sequence": account.sequence,
            "state": str(account.state),
            "previousState": _text(self.previous_state),
            "reason": _text(account.reason),
            "message": account.message,
            "since": instant(account.since),
            "unverifiedSince": None if account.unverified_since is None else instant(account.unverified_since),
            "damagedSince": None if account.damage is None else instant(account.damage.since),
            "encryption": str(account.encryption),
            "keyIdentifier": None if customer_key is None else str(customer_key.key),
            "currentKeyIdentifier": _text(account.current),
            "detectedBy": _text(self.detected_by),
            "observedAt": None if self.observed_at is None else instant(self.observed_at),
            **self.detail,
        }


def follow(account: Account, verdict: Verdict) -> tuple[Account, tuple[EventType, ...]]:
    """Carry a verdict to an account of its wrapping version.

    Returns:
        the account with state, reason and `followed` brought up to the verdict, and the types of the events that this
        causes, in order (none when the account already was there). Sequences are the caller's.
    """
    state = State.ACCESSIBLE if verdict.outcome is Outcome.USABLE else State.INACCESSIBLE
    told = verdict.unverified if verdict.unverified is not None and verdict.unverified.told else None
    types: list[EventType] = []
    if account.unverified_since is None and told is not None:
        types.append(EventType.ACCOUNT_UNVERIFIED)
    changed, accessible = (state, verdict.reason) != (account.state, account.reason), state is State.ACCESSIBLE
    if account.unverified_since is not None and told is None and (accessible or not changed):
        types.append(EventType.ACCOUNT_VERIFIED)  # a denial that counts now verifies nothing that was told before
    since = account.since
    if changed:
        types.append(EventType.ACCOUNT_ACCESSIBLE if accessible else EventType.ACCOUNT_INACCESSIBLE)
        since = verdict.since
    followed = replace(
        account,
        state=state,
        reason=verdict.reason,
        since=since,
        message=state_message(verdict) if types else account.message,
        unverified_since=None if told is None else told.since,
        followed=verdict.number,
    )
    return followed, tuple(types)


def state_message(verdict: Verdict) -> str:
    """Say in one sentence why an account is in the state that this verdict gives it, and since when it is in doubt."""
    words = "the account key can be unwrapped" if verdict.outcome is Outcome.USABLE else verdict.message
    unverified = verdict.unverified
    if unverified is None or not unverified.told or verdict.reason is Reason.UNVERIFIED:
        return words
    return f"{words}, but that could not be verified since {instant(unverified.since)}: {unverified.reason}"


@lru_cache(maxsize=256)
def instant(time: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC with milliseconds. Kept, because many accounts follow one verdict."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
