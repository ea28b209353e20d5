"""Where an account's key goes: the watch and version that wrap it, made where they do not exist yet."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from byokd.adapters.sql.errors import is_duplicate
from byokd.adapters.sql.rows import verdict_of
from byokd.adapters.sql.tables import replicas, vaults, watches, wrapping_versions
from byokd.adapters.sql.watches import IDENTIFIED, add_version, names
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import KeyIdentifier, KeyVersion, VaultHost, WatchId, WrappingVersionId
from byokd.domain.verdict import Verdict
from byokd.domain.vocabulary import DetectedBy
from byokd.ports import KeyTarget, StaleError
from byokd.records import KeyPlacement, NewVersion

_CURRENT = (
    select(wrapping_versions)
    .join(watches)
    .where(IDENTIFIED, wrapping_versions.c.is_current.is_(True))
    .with_for_update(read=True)
)


@dataclass(frozen=True, slots=True)
class Place:
    """What wraps an account key from now on, and its verdict. Only the verdict is there with the system key."""

    watch: WatchId | None
    version: WrappingVersionId | None
    identifier: KeyIdentifier | None
    verdict: Verdict


def place(connection: Connection, spec: AccountSpec, placement: KeyPlacement, *, now: datetime) -> Place:
    """Find or make the watch of an account's key, which must be on the placement's version.

    Raises:
        StaleError: the watch is on another version, or is gone, or was made by somebody else meanwhile.
        ValueError: the placement's version is not one of the account's key.
    """
    customer_key, identifier = spec.customer_key, placement.key_identifier
    if customer_key is None or identifier is None or identifier.version is None:
        if customer_key is not None or identifier is not None:
            raise ValueError("the account and its wrapped key disagree about the customer key")
        return Place(None, None, None, _fresh(now))
    version = identifier.version
    if identifier != customer_key.key.at(version) or customer_key.key.version not in {None, version}:
        raise ValueError(f"{identifier} is not a version of {customer_key.key}")
    target = KeyTarget(customer_key.identity, spec.tenant, customer_key.key)
    found = _current(connection, target)
    if found is None:
        return _make(connection, target, version, placement.first_version, now=now)
    if found.identifier != identifier:
        raise StaleError(f"the watch of {customer_key.key} is on another version")
    return found


def _fresh(now: datetime) -> Verdict:
    return Verdict.adopted(now, detected_by=DetectedBy.OPERATOR)


def _current(connection: Connection, target: KeyTarget) -> Place | None:
    row = connection.execute(_CURRENT, names(target)).one_or_none()
    if row is None:
        return None
    identifier = target.key.at(KeyVersion(row.version))
    return Place(WatchId(row.watch), WrappingVersionId(row.id), identifier, verdict_of(row))


def _make(
    connection: Connection, target: KeyTarget, version: KeyVersion, proof: NewVersion | None, *, now: datetime
) -> Place:
    if proof is None:
        raise StaleError(f"there is no watch of {target.key} any more")
    if proof.facts.version != version:
        raise ValueError("the proof is of another version than the one that wrapped the key")
    try:
        _ensure_vault(connection, target.key.host)
        result = connection.execute(
            insert(watches).values(
                identity=target.identity,
                tenant=target.tenant,
                host=target.key.host,
                key_name=target.key.name,
                pinned=target.key.version or "",
                revision=1,
                warnings=[],
                due_at=now,
            )
        )
    except IntegrityError as error:
        if is_duplicate(error):
            raise StaleError(f"the watch of {target.key} was made meanwhile") from error
        raise
    (watch,) = result.inserted_primary_key or (0,)
    made = add_version(
        connection,
        WatchId(watch),
        version=version,
        created=proof.facts.created,
        probe=proof.probe,
        verdict=_fresh(now),
        now=now,
    )
    return Place(WatchId(watch), made.id, target.key.at(version), made.verdict)


def _ensure_vault(connection: Connection, host: VaultHost) -> None:
    if connection.scalar(select(vaults.c.host).where(vaults.c.host == host)) is None:
        holder = connection.scalar(select(replicas.c.name).order_by(replicas.c.claim.desc()).limit(1))
        connection.execute(insert(vaults).values(host=host, holder=holder or "", epoch=1))
