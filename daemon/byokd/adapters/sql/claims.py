"""Which customer tenant an identity serves: a claim for every identity in use.

Without it, what one customer granted an identity would serve every other customer whose accounts name it. Whoever adds
a user of an identity has the claim's row locked, so that of two at once one sees the other.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from byokd.adapters.sql.errors import is_duplicate
from byokd.adapters.sql.tables import accounts, identity_claims, watches
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import IdentityName
from byokd.ports import IdentityTakenError, StaleError
from byokd.records import Claim

_CLAIM = select(identity_claims).where(identity_claims.c.identity == bindparam("identity"))
_LOCK = _CLAIM.with_for_update()
_OTHERS = (accounts.c.tenant != bindparam("tenant")) & (accounts.c.id != bindparam("account"))
_WATCHED = (
    select(accounts.c.id)
    .join(watches, accounts.c.watch == watches.c.id)
    .where(watches.c.identity == bindparam("identity"), watches.c.tenant != bindparam("tenant"), _OTHERS)
)
_ATTACHED = select(accounts.c.id).where(accounts.c.attached_identity == bindparam("identity"), _OTHERS)
_SERVES_OTHERS = select(_WATCHED.exists() | _ATTACHED.exists())
_CHANGE = update(identity_claims).where(identity_claims.c.identity == bindparam("of"))
_RELEASE = delete(identity_claims).where(
    identity_claims.c.identity == bindparam("of"),
    ~exists().where(watches.c.identity == identity_claims.c.identity),
    ~exists().where(accounts.c.attached_identity == identity_claims.c.identity),
)


def may_claim(connection: Connection, spec: AccountSpec, claim: Claim) -> bool:
    """See `Store.may_claim`."""
    row = connection.execute(_CLAIM, {"identity": spec.identity}).one_or_none()
    return row is None or _fits(connection, row.tenant, spec, claim)


def take_claim(connection: Connection, spec: AccountSpec, claim: Claim) -> None:
    """Let an account use its identity, if it has one.

    Raises:
        IdentityTakenError: it serves accounts of another tenant, and is to serve one alone.
        StaleError: somebody claimed it meanwhile.
    """
    identity, tenant = spec.identity, spec.tenant
    if identity is None:
        return
    row = connection.execute(_LOCK, {"identity": identity}).one_or_none()
    if row is None:
        try:
            connection.execute(insert(identity_claims).values(identity=identity, tenant=tenant))
        except IntegrityError as error:
            if is_duplicate(error):
                raise StaleError(f"the identity {identity} was claimed meanwhile") from error
            raise
        return
    if not _fits(connection, row.tenant, spec, claim):
        raise IdentityTakenError(f"the identity {identity} serves accounts of another tenant")
    if row.tenant != tenant:
        now = tenant if claim is Claim.EXCLUSIVE else None
        connection.execute(_CHANGE.values(tenant=now), {"of": identity})


def release_claims(connection: Connection, identities: Iterable[IdentityName | str | None]) -> None:
    """Drop the claims of those identities that no account and no watch has any more."""
    for identity in sorted({str(one) for one in identities if one is not None}):
        # Locked by a statement of its own: the next one then sees what was committed meanwhile.
        if connection.execute(_LOCK, {"identity": identity}).one_or_none() is not None:
            connection.execute(_RELEASE, {"of": identity})


def _fits(connection: Connection, claimed: str | None, spec: AccountSpec, claim: Claim) -> bool:
    if claim is Claim.SHARED or claimed == spec.tenant:
        return True
    # Whoever it served may be gone, with a former wrap or two left; or it is this very account, which changes tenants.
    parameters = {"identity": spec.identity, "tenant": spec.tenant, "account": str(spec.id)}
    return not connection.scalar(_SERVES_OTHERS, parameters)
