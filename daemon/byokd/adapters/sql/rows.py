"""Between rows and the domain's values."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, RowMapping

from byokd.domain.accounts import Account, AccountSpec, CustomerKey, Damage
from byokd.domain.answers import Evidence
from byokd.domain.identifiers import (
    AccountId,
    IdentityName,
    KeyIdentifier,
    KeyVersion,
    TenantId,
    VaultHost,
    WatchId,
    WrappingVersionId,
)
from byokd.domain.verdict import Probe, Suspicion, Unverified, Verdict, Watch, WatchWarning, WrappingVersion
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, State, WarningKind
from byokd.records import SealedKey, WrappedKey

AnyRow = Row[*tuple[Any, ...]]
"""A row whose columns are read by name."""

Values = dict[str, Any]
"""Columns to write, by name."""


def columns_of(row: AnyRow) -> RowMapping:
    """Give a row's columns by name, for where rows come in thousands: an attribute costs six times as much."""
    return row._mapping  # noqa: SLF001 - public: the underscore keeps it apart from columns


def text(value: object) -> str | None:
    """Give the plain text of a word or identifier: drivers differ in what they make of subclasses of `str`."""
    return None if value is None else str(value)


def sealed_of(row: AnyRow) -> SealedKey:
    """Read what is sealed off a row of an account key."""
    return SealedKey(row.sealed, row.storage_key, row.system_key)


def wrapped_key_of(row: AnyRow) -> WrappedKey:
    """Read a wrapped account key."""
    identifier = None if row.key_identifier is None else stored_identifier(row.key_identifier)
    return WrappedKey(AccountId.parse(row.account), row.generation, identifier, sealed_of(row))


def verdict_values(verdict: Verdict) -> Values:
    """Give a verdict's columns."""
    suspicion, unverified = verdict.suspicion, verdict.unverified
    return {
        "outcome": str(verdict.outcome),
        "reason": text(verdict.reason),
        "message": verdict.message,
        "since": verdict.since,
        "number": verdict.number,
        "detected_by": str(verdict.detected_by),
        "observed_at": verdict.observed_at,
        "recheck_from": verdict.recheck_from,
        "suspicion_reason": None if suspicion is None else str(suspicion.reason),
        "suspicion_message": None if suspicion is None else suspicion.message,
        "suspicion_since": None if suspicion is None else suspicion.since,
        "held_since": None if suspicion is None else suspicion.held_since,
        "suspicion_evidence": [] if suspicion is None else _evidence_document(suspicion.evidence),
        "unverified_reason": None if unverified is None else str(unverified.reason),
        "unverified_since": None if unverified is None else unverified.since,
        "unverified_told": unverified is not None and unverified.told,
        "flips": verdict.flips,
        "flipped_at": verdict.flipped_at,
        "proving_since": verdict.proving_since,
        "evidence": _evidence_document(verdict.evidence),
    }


def verdict_of(row: AnyRow) -> Verdict:
    """Read a verdict off a row with its columns."""
    return Verdict(
        outcome=Outcome(row.outcome),
        reason=None if row.reason is None else Reason(row.reason),
        message=row.message,
        since=row.since,
        number=row.number,
        detected_by=DetectedBy(row.detected_by),
        observed_at=row.observed_at,
        recheck_from=row.recheck_from,
        suspicion=(
            None
            if row.suspicion_reason is None
            else Suspicion(
                Reason(row.suspicion_reason),
                row.suspicion_message,
                row.suspicion_since,
                held_since=row.held_since,
                evidence=_evidence_of(row.suspicion_evidence),
            )
        ),
        unverified=(
            None
            if row.unverified_reason is None
            else Unverified(Reason(row.unverified_reason), row.unverified_since, told=row.unverified_told)
        ),
        evidence=_evidence_of(row.evidence),
        flips=row.flips,
        flipped_at=row.flipped_at,
        proving_since=row.proving_since,
    )


def _evidence_document(evidence: Iterable[Evidence]) -> list[list[str | int | None]]:
    return [
        [
            *(entry.operation, entry.status, entry.code, entry.inner_code, entry.request_id, entry.address),
            *(entry.told, None if entry.at is None else entry.at.isoformat()),
        ]
        for entry in evidence
    ]


def _evidence_of(document: Iterable[list[Any]]) -> tuple[Evidence, ...]:
    return tuple(
        replace(Evidence(*rest), at=None if at is None else datetime.fromisoformat(at)) for *rest, at in document
    )


def wrapping_version_of(row: AnyRow) -> WrappingVersion:
    """Read a wrapping version."""
    return WrappingVersion(
        id=WrappingVersionId(row.id),
        version=KeyVersion(row.version),
        created=row.created,
        probe=Probe(row.probe_wrapped, row.probe_digest),
        verdict=verdict_of(row),
    )


def warning_values(warnings: Iterable[WatchWarning]) -> list[list[str | None]]:
    """Give the document of a watch's warnings."""
    return [
        [str(found.kind), found.version, found.message, None if found.date is None else found.date.isoformat()]
        for found in warnings
    ]


def watch_of(row: AnyRow, version_rows: Iterable[AnyRow]) -> Watch:
    """Read a watch off its row, with the vault's epoch, and the rows of all its versions, oldest first."""
    rows = list(version_rows)
    return Watch(
        id=WatchId(row.id),
        identity=IdentityName(row.identity),
        tenant=TenantId(row.tenant),
        key=watched_key(row),
        revision=row.revision,
        epoch=row.epoch,
        current=next(WrappingVersionId(version.id) for version in rows if version.is_current),
        versions=tuple(wrapping_version_of(version) for version in rows if version.retired_at is None),
        adopted=frozenset(KeyVersion(version.version) for version in rows),
        warnings=tuple(_warning_of(*entry) for entry in row.warnings),
        due_at=row.due_at,
    )


def _warning_of(kind: str, version: str | None, message: str, date: str | None) -> WatchWarning:
    return WatchWarning(
        WarningKind(kind),
        None if version is None else KeyVersion(version),
        message,
        None if date is None else datetime.fromisoformat(date),
    )


def watched_key(row: AnyRow) -> KeyIdentifier:
    """Read the key identifier off the columns of a watch."""
    of = columns_of(row)
    return _key(of["host"], of["key_name"], of["pinned"])


def _key(host: str, name: str, pinned: str) -> KeyIdentifier:
    return KeyIdentifier(VaultHost(host), name, KeyVersion(pinned) if pinned else None)


def stored_identifier(identifier: str) -> KeyIdentifier:
    """Read a versioned key identifier that was checked before it was stored."""
    _, _, host, _, name, version = identifier.split("/")
    return KeyIdentifier(VaultHost(host), name, KeyVersion(version))


@lru_cache(maxsize=256)
def _customer_key(
    identity: str, host: str, key_name: str, pinned: str, wrapped_by: str
) -> tuple[CustomerKey, KeyIdentifier]:
    """Give an account's customer key and its current identifier. Kept, because thousands may have the same."""
    key = _key(host, key_name, pinned)
    return CustomerKey(IdentityName(identity), key), key.at(KeyVersion(wrapped_by))


def account_of(row: AnyRow) -> Account:
    """Read an account off its row, with the columns of its watch and the version that wraps its key."""
    of = columns_of(row)
    customer_key = current = None
    if of["watch"] is not None:
        names = of["identity"], of["host"], of["key_name"], of["pinned"], of["wrapped_by"]
        customer_key, current = _customer_key(*names)
    return Account(
        spec=AccountSpec(
            AccountId.parse(of["id"]),
            TenantId(of["tenant"]),
            of["location"],
            customer_key,
            None if of["attached_identity"] is None else IdentityName(of["attached_identity"]),
        ),
        incarnation=of["incarnation"],
        sequence=of["sequence"],
        generation=of["generation"],
        watch=None if of["watch"] is None else WatchId(of["watch"]),
        wrapping_version=None if of["wrapping_version"] is None else WrappingVersionId(of["wrapping_version"]),
        current=current,
        state=State(of["state"]),
        reason=None if of["reason"] is None else Reason(of["reason"]),
        message=of["message"],
        since=of["since"],
        unverified_since=of["unverified_since"],
        followed=of["followed"],
        created_at=of["created_at"],
        updated_at=of["updated_at"],
        damage=None if of["damaged_since"] is None else Damage(of["damaged_since"], of["damaged_message"]),
    )


def state_values(account: Account) -> Mapping[str, Any]:
    """Give the columns of an account that its verdict changes. Few, because databases write the index of each anew."""
    return {
        "sequence": account.sequence,
        "state": str(account.state),
        "reason": text(account.reason),
        "message": account.message,
        "since": account.since,
        "unverified_since": account.unverified_since,
        "followed": account.followed,
        "updated_at": account.updated_at,
    }


def account_values(account: Account) -> Mapping[str, Any]:
    """Give the columns of an account that may change while it exists."""
    return {
        **state_values(account),
        "location": account.spec.location,
        "generation": account.generation,
        "watch": account.watch,
        "wrapping_version": account.wrapping_version,
        "damaged_since": None if account.damage is None else account.damage.since,
        "damaged_message": None if account.damage is None else account.damage.message,
        "attached_identity": text(account.spec.attached),
    }
