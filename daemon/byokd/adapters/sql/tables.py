"""The tables. What is read off another row is not kept twice: an account's key is its watch's.

Every change here needs a migration; a test holds the two together.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    String,
    Table,
    TypedColumns,
    UniqueConstraint,
)

from byokd.adapters.sql.columns import Document, Instant

BY_CODE_POINT = String().with_variant(String(collation="C"), "postgresql")
"""Text that sorts and folds as SQLite's, and Python's, does: not by the language that a database was made for."""

# A constraint without a name cannot be changed by a later migration.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


class VaultColumns(TypedColumns):
    """A vault, the replica that holds it, and the epoch that fences its writes.

    `asked_at` is when ARM was last asked about it, of itself.

    While it fails or throttles: why, the present wait, and when it is tried again; all null otherwise. This is kept
    with the vault and not computed from its watches' verdicts: `unverified_since` says since when one watch was not
    verified, which a vault that answered another watch a moment ago survives; and no verdict knows what a vault asked
    for by Retry-After.
    """

    host: Named[str] = Column(String, primary_key=True)
    holder: Named[str]
    epoch: Named[int]
    failing_reason: Named[str | None]
    backoff_ms: Named[int | None]
    next_try_at: Named[datetime | None] = Column(Instant)
    asked_at: Named[datetime | None] = Column(Instant)


class ReplicaColumns(TypedColumns):
    """A replica that claimed vaults; the highest claim holds the vaults that are yet to come."""

    name: Named[str] = Column(String, primary_key=True)
    claim: Named[int]


class IdentityClaimColumns(TypedColumns):
    """An identity in use and the one customer tenant that it serves; null once it served several, being shared."""

    identity: Named[str] = Column(String, primary_key=True)
    tenant: Named[str | None]


class WatchColumns(TypedColumns):
    """A watch. `pinned` is empty for a versionless key; unique constraints would let two nulls pass."""

    id: Named[int] = Column(Integer, primary_key=True)
    identity: Named[str] = Column(String, ForeignKey("identity_claims.identity"), nullable=False)
    tenant: Named[str]
    host: Named[str] = Column(String, ForeignKey("vaults.host"), nullable=False, index=True)
    key_name: Named[str] = Column(BY_CODE_POINT, nullable=False)
    pinned: Named[str]
    revision: Named[int]
    warnings: Named[Any] = Column(Document, nullable=False)
    due_at: Named[datetime] = Column(Instant, nullable=False)


class WrappingVersionColumns(TypedColumns):
    """A wrapping version with its probe and verdict. Retired ones stay, so that they are not adopted again.

    `carried` is the verdict number that all its accounts have followed: where it equals `number`, there is no need to
    look at the accounts.
    """

    id: Named[int] = Column(Integer, primary_key=True)
    watch: Named[int] = Column(Integer, ForeignKey("watches.id"), nullable=False)
    version: Named[str]
    created: Named[datetime | None] = Column(Instant)
    adopted_at: Named[datetime] = Column(Instant, nullable=False)
    is_current: Named[bool] = Column(Boolean, nullable=False)
    retired_at: Named[datetime | None] = Column(Instant)
    probe_wrapped: Named[bytes] = Column(LargeBinary, nullable=False)
    probe_digest: Named[bytes] = Column(LargeBinary, nullable=False)
    outcome: Named[str]
    reason: Named[str | None]
    message: Named[str]
    since: Named[datetime] = Column(Instant, nullable=False)
    number: Named[int]
    carried: Named[int]
    detected_by: Named[str]
    observed_at: Named[datetime] = Column(Instant, nullable=False)
    recheck_from: Named[datetime] = Column(Instant, nullable=False)
    suspicion_reason: Named[str | None]
    suspicion_message: Named[str | None]
    suspicion_since: Named[datetime | None] = Column(Instant)
    held_since: Named[datetime | None] = Column(Instant)
    suspicion_evidence: Named[Any] = Column(Document, nullable=False)
    unverified_reason: Named[str | None]
    unverified_since: Named[datetime | None] = Column(Instant)
    unverified_told: Named[bool] = Column(Boolean, nullable=False)
    flips: Named[int]
    flipped_at: Named[datetime | None] = Column(Instant)
    proving_since: Named[datetime | None] = Column(Instant)
    evidence: Named[Any] = Column(Document, nullable=False)


class AccountColumns(TypedColumns):
    """An account. Both `watch` and `wrapping_version`, or neither with the system key.

    `attached_identity` is that of an account with the system key; with a customer key it is the watch's.
    """

    id: Named[str] = Column(BY_CODE_POINT, primary_key=True)
    name: Named[str] = Column(String, nullable=False, index=True)
    tenant: Named[str]
    location: Named[str]
    incarnation: Named[str]
    sequence: Named[int]
    generation: Named[int]
    watch: Named[int | None] = Column(Integer, ForeignKey("watches.id"), index=True)
    wrapping_version: Named[int | None] = Column(Integer, ForeignKey("wrapping_versions.id"))
    state: Named[str] = Column(String, nullable=False, index=True)
    reason: Named[str | None]
    message: Named[str]
    since: Named[datetime] = Column(Instant, nullable=False)
    unverified_since: Named[datetime | None] = Column(Instant)
    followed: Named[int]
    created_at: Named[datetime] = Column(Instant, nullable=False)
    updated_at: Named[datetime] = Column(Instant, nullable=False)
    rewrap_attempts: Named[int]
    rewrap_due_at: Named[datetime | None] = Column(Instant)
    damaged_since: Named[datetime | None] = Column(Instant)
    damaged_message: Named[str | None]
    attached_identity: Named[str | None] = Column(String, ForeignKey("identity_claims.identity"), index=True)


class AccountKeyColumns(TypedColumns):
    """A wrapped account key, sealed: the current one, or superseded and kept for a while.

    A customer key or a system key is inside, never both: `key_identifier` or `system_key`.
    """

    account: Named[str] = Column(String, ForeignKey("accounts.id"), primary_key=True)
    generation: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    key_identifier: Named[str | None]
    wrapping_version: Named[int | None] = Column(Integer, ForeignKey("wrapping_versions.id"), index=True)
    sealed: Named[bytes] = Column(LargeBinary, nullable=False)
    storage_key: Named[str]
    system_key: Named[str | None]
    created_at: Named[datetime] = Column(Instant, nullable=False)
    superseded_at: Named[datetime | None] = Column(Instant)


class ProtectedValueColumns(TypedColumns):
    """A value encrypted with the account key, then sealed; it goes with its account. A write makes a new revision."""

    account: Named[str] = Column(String, ForeignKey("accounts.id"), primary_key=True)
    kind: Named[str] = Column(String, primary_key=True)
    name: Named[str] = Column(String, primary_key=True)
    revision: Named[int]
    sealed: Named[bytes] = Column(LargeBinary, nullable=False)
    storage_key: Named[str]
    created_at: Named[datetime] = Column(Instant, nullable=False)
    updated_at: Named[datetime] = Column(Instant, nullable=False)


class ServiceKeyColumns(TypedColumns):
    """What a service key of that kind and id is recognised by; it says nothing about the key."""

    kind: Named[str] = Column(String, primary_key=True)
    id: Named[str] = Column(String, primary_key=True)
    check_value: Named[bytes] = Column(LargeBinary, nullable=False)


class RotationColumns(TypedColumns):
    """An order to seal everything anew under these keys. The last one counts."""

    number: Named[int] = Column(Integer, primary_key=True)
    storage_key: Named[str]
    system_key: Named[str]
    begun_at: Named[datetime] = Column(Instant, nullable=False)
    ended_at: Named[datetime | None] = Column(Instant)
    stuck: Named[int]


class StoreIdentityColumns(TypedColumns):
    """The one row by which this database is told from every other."""

    one: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    id: Named[str]


class BrakeColumns(TypedColumns):
    """The one row of the brake; engaged while `engaged_at` is set. `settled` counts what an operator judged so far."""

    one: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    revision: Named[int]
    engaged_at: Named[datetime | None] = Column(Instant)
    engaged_by: Named[str | None]
    mode: Named[str | None]
    finding: Named[Any] = Column(Document, nullable=False)
    message: Named[str]
    settled: Named[int]
    released_at: Named[datetime | None] = Column(Instant)
    counts_from: Named[datetime | None] = Column(Instant)


class EventColumns(TypedColumns):
    """Outbox and record in one: only `published_at` is ever written again. Events outlive their accounts.

    Once published they are deleted when they are old. Each signs, under the audit key, its predecessor in its stream.
    """

    number: Named[int] = Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    id: Named[str] = Column(String, nullable=False)
    stream: Named[str] = Column(BY_CODE_POINT, nullable=False)
    type: Named[str]
    time: Named[datetime] = Column(Instant, nullable=False)
    account: Named[str | None]
    incarnation: Named[str | None]
    sequence: Named[int | None]
    data: Named[Any] = Column(Document, nullable=False)
    retained: Named[str]
    published_at: Named[datetime | None] = Column(Instant)
    previous: Named[bytes] = Column(LargeBinary, nullable=False)
    mac: Named[bytes] = Column(LargeBinary, nullable=False)
    audit_key: Named[str]


class ChainColumns(TypedColumns):
    """Where the kept events of a stream begin and end, signed. It stays when all its events are forgotten."""

    stream: Named[str] = Column(BY_CODE_POINT, primary_key=True)
    floor: Named[bytes] = Column(LargeBinary, nullable=False)
    floor_number: Named[int] = Column(BigInteger, nullable=False)
    forgotten: Named[int] = Column(BigInteger, nullable=False)
    head: Named[bytes] = Column(LargeBinary, nullable=False)
    length: Named[int] = Column(BigInteger, nullable=False)
    audit_key: Named[str]
    mac: Named[bytes] = Column(LargeBinary, nullable=False)


vaults = Table("vaults", metadata, VaultColumns)
replicas = Table("replicas", metadata, ReplicaColumns)
identity_claims = Table("identity_claims", metadata, IdentityClaimColumns)
# An id that came back would let a write meant for a deleted watch through the guards of a new one.
watches = Table(
    "watches",
    metadata,
    WatchColumns,
    UniqueConstraint("identity", "tenant", "host", "key_name", "pinned", name="one_watch"),
    sqlite_autoincrement=True,
)
wrapping_versions = Table(
    "wrapping_versions",
    metadata,
    WrappingVersionColumns,
    UniqueConstraint("watch", "version", name="one_wrapping_version"),
    sqlite_autoincrement=True,
)
accounts = Table(
    "accounts",
    metadata,
    AccountColumns,
    CheckConstraint("(watch IS NULL) = (wrapping_version IS NULL)", name="watch_with_wrapping_version"),
    CheckConstraint("watch IS NULL OR attached_identity IS NULL", name="one_identity"),
    Index("ix_accounts_followed", "wrapping_version", "followed"),
)
account_keys = Table(
    "account_keys",
    metadata,
    AccountKeyColumns,
    CheckConstraint("(key_identifier IS NULL) <> (system_key IS NULL)", name="one_inner_layer"),
    Index("ix_account_keys_seals", "storage_key", "system_key", "account", "generation"),
)
protected_values = Table(
    "protected_values",
    metadata,
    ProtectedValueColumns,
    Index("ix_protected_values_seals", "storage_key", "account", "kind", "name"),
)
service_keys = Table("service_keys", metadata, ServiceKeyColumns)
rotations = Table("rotations", metadata, RotationColumns, sqlite_autoincrement=True)
store_identity = Table(
    "store_identity", metadata, StoreIdentityColumns, CheckConstraint("one = 1", name="one_store_identity")
)
brake = Table("brake", metadata, BrakeColumns, CheckConstraint("one = 1", name="one_brake"))
events = Table(
    "events",
    metadata,
    EventColumns,
    UniqueConstraint("account", "incarnation", "sequence", name="one_event_per_sequence"),
    Index("ix_events_stream", "stream", "number"),
    sqlite_autoincrement=True,
)
chains = Table("chains", metadata, ChainColumns, sqlite_with_rowid=False)


def _partial(name: str, *columns: Column[Any], where: ColumnElement[bool], unique: bool = False) -> None:
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial(
    "one_current_version",
    wrapping_versions.c.watch,
    where=wrapping_versions.c.is_current.is_(True),
    unique=True,
)
_partial(
    "ix_wrapping_versions_left",
    wrapping_versions.c.watch,
    where=wrapping_versions.c.is_current.is_(False) & wrapping_versions.c.retired_at.is_(None),
)
_partial(
    "ix_wrapping_versions_suspected",
    wrapping_versions.c.watch,
    where=wrapping_versions.c.suspicion_reason.is_not(None),
)
_partial("ix_wrapping_versions_denied", wrapping_versions.c.since, where=wrapping_versions.c.reason.is_not(None))
_partial(
    "ix_wrapping_versions_uncarried",
    wrapping_versions.c.number,
    where=wrapping_versions.c.carried != wrapping_versions.c.number,
)
_partial(
    "ix_account_keys_superseded",
    account_keys.c.superseded_at,
    where=account_keys.c.superseded_at.is_not(None),
)
# A batch of rewraps begins where it has to, however many of a key's accounts wait: never tried, or tried and due.
_partial("ix_accounts_untried", accounts.c.wrapping_version, accounts.c.id, where=accounts.c.rewrap_due_at.is_(None))
_partial(
    "ix_accounts_tried",
    accounts.c.wrapping_version,
    accounts.c.rewrap_due_at,
    accounts.c.id,
    where=accounts.c.rewrap_due_at.is_not(None),
)
_partial("ix_accounts_damaged", accounts.c.id, where=accounts.c.damaged_since.is_not(None))
_partial("ix_events_unpublished", events.c.number, where=events.c.published_at.is_(None))
_partial("ix_events_published", events.c.time, where=events.c.published_at.is_not(None))
