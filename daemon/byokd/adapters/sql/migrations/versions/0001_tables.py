"""The first tables.

Revision ID: 0001
Revises:
"""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_BY_CODE_POINT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make them."""
    _vaults()
    _replicas()
    _identity_claims()
    _watches()
    _wrapping_versions()
    _wrapping_version_indexes()
    _accounts()
    _account_keys()
    _protected_values()
    _service_keys()
    _rotations()
    _store_identity()
    _brake()
    _events()
    _chains()


def _partial(name: str, table: str, column: str, where: sa.ColumnElement[bool], *, unique: bool = False) -> None:
    op.create_index(name, table, [column], unique=unique, sqlite_where=where, postgresql_where=where)


def _vaults() -> None:
    op.create_table(
        "vaults",
        sa.Column("host", sa.String, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("failing_reason", sa.String),
        sa.Column("backoff_ms", sa.Integer),
        sa.Column("next_try_at", _INSTANT),
        sa.Column("asked_at", _INSTANT),
        sa.PrimaryKeyConstraint("host", name="pk_vaults"),
    )


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("claim", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_replicas"),
    )


def _identity_claims() -> None:
    op.create_table(
        "identity_claims",
        sa.Column("identity", sa.String, nullable=False),
        sa.Column("tenant", sa.String),
        sa.PrimaryKeyConstraint("identity", name="pk_identity_claims"),
    )


def _watches() -> None:
    op.create_table(
        "watches",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("identity", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("key_name", _BY_CODE_POINT, nullable=False),
        sa.Column("pinned", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("warnings", sa.Text, nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["host"], ["vaults.host"], name="fk_watches_host"),
        sa.ForeignKeyConstraint(["identity"], ["identity_claims.identity"], name="fk_watches_identity"),
        sa.PrimaryKeyConstraint("id", name="pk_watches"),
        sa.UniqueConstraint("identity", "tenant", "host", "key_name", "pinned", name="one_watch"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_watches_host", "watches", ["host"])


def _wrapping_versions() -> None:
    op.create_table(
        "wrapping_versions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("watch", sa.Integer, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("created", _INSTANT),
        sa.Column("adopted_at", _INSTANT, nullable=False),
        sa.Column("is_current", sa.Boolean, nullable=False),
        sa.Column("retired_at", _INSTANT),
        sa.Column("probe_wrapped", sa.LargeBinary, nullable=False),
        sa.Column("probe_digest", sa.LargeBinary, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("carried", sa.Integer, nullable=False),
        sa.Column("detected_by", sa.String, nullable=False),
        sa.Column("observed_at", _INSTANT, nullable=False),
        sa.Column("recheck_from", _INSTANT, nullable=False),
        sa.Column("suspicion_reason", sa.String),
        sa.Column("suspicion_message", sa.String),
        sa.Column("suspicion_since", _INSTANT),
        sa.Column("held_since", _INSTANT),
        sa.Column("suspicion_evidence", sa.Text, nullable=False),
        sa.Column("unverified_reason", sa.String),
        sa.Column("unverified_since", _INSTANT),
        sa.Column("unverified_told", sa.Boolean, nullable=False),
        sa.Column("flips", sa.Integer, nullable=False),
        sa.Column("flipped_at", _INSTANT),
        sa.Column("proving_since", _INSTANT),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["watch"], ["watches.id"], name="fk_wrapping_versions_watch"),
        sa.PrimaryKeyConstraint("id", name="pk_wrapping_versions"),
        sa.UniqueConstraint("watch", "version", name="one_wrapping_version"),
        sqlite_autoincrement=True,
    )


def _wrapping_version_indexes() -> None:
    _partial(
        "ix_wrapping_versions_left",
        "wrapping_versions",
        "watch",
        sa.column("is_current").is_(False) & sa.column("retired_at").is_(None),
    )
    _partial(
        "ix_wrapping_versions_uncarried", "wrapping_versions", "number", sa.column("carried") != sa.column("number")
    )
    suspected = sa.column("suspicion_reason").is_not(None)
    _partial("ix_wrapping_versions_suspected", "wrapping_versions", "watch", suspected)
    _partial("ix_wrapping_versions_denied", "wrapping_versions", "since", sa.column("reason").is_not(None))
    _partial("one_current_version", "wrapping_versions", "watch", sa.column("is_current").is_(True), unique=True)


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", _BY_CODE_POINT, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("location", sa.String, nullable=False),
        sa.Column("incarnation", sa.String, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("watch", sa.Integer),
        sa.Column("wrapping_version", sa.Integer),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("unverified_since", _INSTANT),
        sa.Column("followed", sa.Integer, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("rewrap_attempts", sa.Integer, nullable=False),
        sa.Column("rewrap_due_at", _INSTANT),
        sa.Column("damaged_since", _INSTANT),
        sa.Column("damaged_message", sa.String),
        sa.Column("attached_identity", sa.String),
        sa.CheckConstraint("(watch IS NULL) = (wrapping_version IS NULL)", name="watch_with_wrapping_version"),
        sa.CheckConstraint("watch IS NULL OR attached_identity IS NULL", name="one_identity"),
        sa.ForeignKeyConstraint(
            ["attached_identity"], ["identity_claims.identity"], name="fk_accounts_attached_identity"
        ),
        sa.ForeignKeyConstraint(["watch"], ["watches.id"], name="fk_accounts_watch"),
        sa.ForeignKeyConstraint(["wrapping_version"], ["wrapping_versions.id"], name="fk_accounts_wrapping_version"),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
    )
    op.create_index("ix_accounts_attached_identity", "accounts", ["attached_identity"])
    op.create_index("ix_accounts_followed", "accounts", ["wrapping_version", "followed"])
    op.create_index("ix_accounts_name", "accounts", ["name"])
    op.create_index("ix_accounts_state", "accounts", ["state"])
    op.create_index("ix_accounts_watch", "accounts", ["watch"])
    for name, columns, where in (
        ("ix_accounts_untried", ["wrapping_version", "id"], sa.column("rewrap_due_at").is_(None)),
        ("ix_accounts_tried", ["wrapping_version", "rewrap_due_at", "id"], sa.column("rewrap_due_at").is_not(None)),
        ("ix_accounts_damaged", ["id"], sa.column("damaged_since").is_not(None)),
    ):
        op.create_index(name, "accounts", columns, sqlite_where=where, postgresql_where=where)


def _account_keys() -> None:
    op.create_table(
        "account_keys",
        sa.Column("account", sa.String, nullable=False),
        sa.Column("generation", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("key_identifier", sa.String),
        sa.Column("wrapping_version", sa.Integer),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("storage_key", sa.String, nullable=False),
        sa.Column("system_key", sa.String),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("superseded_at", _INSTANT),
        sa.CheckConstraint("(key_identifier IS NULL) <> (system_key IS NULL)", name="one_inner_layer"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_account_keys_account"),
        sa.ForeignKeyConstraint(
            ["wrapping_version"], ["wrapping_versions.id"], name="fk_account_keys_wrapping_version"
        ),
        sa.PrimaryKeyConstraint("account", "generation", name="pk_account_keys"),
    )
    _partial("ix_account_keys_superseded", "account_keys", "superseded_at", sa.column("superseded_at").is_not(None))
    op.create_index("ix_account_keys_seals", "account_keys", ["storage_key", "system_key", "account", "generation"])
    op.create_index("ix_account_keys_wrapping_version", "account_keys", ["wrapping_version"])


def _protected_values() -> None:
    op.create_table(
        "protected_values",
        sa.Column("account", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("storage_key", sa.String, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_protected_values_account"),
        sa.PrimaryKeyConstraint("account", "kind", "name", name="pk_protected_values"),
    )
    op.create_index("ix_protected_values_seals", "protected_values", ["storage_key", "account", "kind", "name"])


def _service_keys() -> None:
    op.create_table(
        "service_keys",
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("check_value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name="pk_service_keys"),
    )


def _rotations() -> None:
    op.create_table(
        "rotations",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("storage_key", sa.String, nullable=False),
        sa.Column("system_key", sa.String, nullable=False),
        sa.Column("begun_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
        sa.Column("stuck", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_rotations"),
        sqlite_autoincrement=True,
    )


def _store_identity() -> None:
    table = op.create_table(
        "store_identity",
        sa.Column("one", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.CheckConstraint("one = 1", name="one_store_identity"),
        sa.PrimaryKeyConstraint("one", name="pk_store_identity"),
    )
    op.bulk_insert(table, [{"one": 1, "id": str(uuid.uuid4())}])


def _brake() -> None:
    table = op.create_table(
        "brake",
        sa.Column("one", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("engaged_at", _INSTANT),
        sa.Column("engaged_by", sa.String),
        sa.Column("mode", sa.String),
        sa.Column("finding", sa.Text, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("settled", sa.Integer, nullable=False),
        sa.Column("released_at", _INSTANT),
        sa.Column("counts_from", _INSTANT),
        sa.CheckConstraint("one = 1", name="one_brake"),
        sa.PrimaryKeyConstraint("one", name="pk_brake"),
    )
    op.bulk_insert(table, [{"one": 1, "revision": 0, "finding": "null", "message": "", "settled": 0}])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("stream", _BY_CODE_POINT, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("time", _INSTANT, nullable=False),
        sa.Column("account", sa.String),
        sa.Column("incarnation", sa.String),
        sa.Column("sequence", sa.Integer),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("retained", sa.String, nullable=False),
        sa.Column("published_at", _INSTANT),
        sa.Column("previous", sa.LargeBinary, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sa.Column("audit_key", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_events"),
        sa.UniqueConstraint("account", "incarnation", "sequence", name="one_event_per_sequence"),
        sqlite_autoincrement=True,
    )
    _partial("ix_events_unpublished", "events", "number", sa.column("published_at").is_(None))
    _partial("ix_events_published", "events", "time", sa.column("published_at").is_not(None))
    op.create_index("ix_events_stream", "events", ["stream", "number"])


def _chains() -> None:
    op.create_table(
        "chains",
        sa.Column("stream", _BY_CODE_POINT, nullable=False),
        sa.Column("floor", sa.LargeBinary, nullable=False),
        sa.Column("floor_number", sa.BigInteger, nullable=False),
        sa.Column("forgotten", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("audit_key", sa.String, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_chains"),
        sqlite_with_rowid=False,
    )
