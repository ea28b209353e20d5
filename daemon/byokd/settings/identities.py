"""Identities: where tokens come from, under names that accounts refer to."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from byokd.domain.identifiers import IdentifierInvalidError, parse_tenant
from byokd.domain.managed_identities import parse_managed_identity
from byokd.settings.group import Group
from byokd.settings.kinds import AbsolutePath, Name, Switch

Kind = Literal["managed-identity", "workload-identity", "certificate", "cross-tenant"]
Authority = Literal["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"]

PUBLIC: Final[Authority] = "login.microsoftonline.com"
VAULTS_OF: Final[Mapping[Authority, str]] = {
    PUBLIC: "vault.azure.net",
    "login.microsoftonline.us": "vault.usgovcloudapi.net",
    "login.partner.microsoftonline.cn": "vault.azure.cn",
}
"""The suffix of the vaults in the cloud of each Entra ID (documentation)."""

_FIELDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "managed-identity": ("client_id", "resource_id"),
    "workload-identity": ("client_id", "tenant", "token_file", "authority"),
    "certificate": ("client_id", "certificate_file", "tenant", "authority"),
    "cross-tenant": ("client_id", "via", "tenant", "authority"),
}
"""What belongs to each kind besides `shared`. What a managed identity has need not be there, nor `_OPTIONAL`."""

_OPTIONAL: Final[Mapping[Kind, tuple[str, ...]]] = {
    "workload-identity": ("authority",),
    "certificate": ("tenant", "authority"),
    "cross-tenant": ("tenant", "authority"),
}

_OF_KINDS: Final = frozenset(name for names in _FIELDS.values() for name in names)
_RIGHT: Final = {
    "client_id": "the application's (client) id",
    "tenant": "the tenant in which the application was made",
    "token_file": "the file that the platform keeps the federated token in",
    "certificate_file": "a PEM file with certificate and private key",
    "via": "the name of the managed identity that the application trusts",
}


def _guid(value: str) -> str:
    try:
        return parse_tenant(value)
    except IdentifierInvalidError:
        raise ValueError("not a GUID: write it as the portal shows it") from None


def _managed_identity_id(value: str) -> str:
    try:
        parse_managed_identity(value)
    except IdentifierInvalidError as error:
        raise ValueError(f"not the ARM id of a user-assigned managed identity: write {error.hint}") from None
    return value


class IdentitySettings(Group):
    """A credential source under a name. Accounts refer to it by that name, or by the ARM id that is its `resource_id`.

    docs/operations.md shows how each kind is set up.
    """

    kind: Kind = "managed-identity"
    """`managed-identity`: the machine's own, from the instance metadata or App Service endpoint.
    `workload-identity`: an application that trusts tokens of the platform, such as a Kubernetes service account's.
    `certificate`: an application with a certificate.
    `cross-tenant`: a multi-tenant application that trusts a managed identity (`via`).
    The last three ask the tenant that an account was registered with, and no other."""

    client_id: Annotated[str, AfterValidator(_guid)] | None = None
    """Client id of the application; of `managed-identity`, of a user-assigned one. Neither this nor `resource_id`: the
    system-assigned one."""

    resource_id: Annotated[str, AfterValidator(_managed_identity_id)] | None = None
    """`managed-identity` only: ARM id of a user-assigned one, instead of `client_id`. Accounts may name it so."""

    tenant: Annotated[str, AfterValidator(_guid)] | None = None
    """The tenant in which the application was made; not for `managed-identity`, and of the others only
    `workload-identity` must have it. `byokd doctor` tries it there while no account uses it; the tokens of accounts
    come from the accounts' tenants."""

    token_file: AbsolutePath | None = None
    """`workload-identity` only: file with the federated token, which the platform renews. Read anew every 10 minutes,
    and after a refusal. Checked before the start."""

    certificate_file: AbsolutePath | None = None
    """`certificate` only: PEM file with the certificate and its RSA key, without a passphrase, that nobody else can
    read (mode 0600, or a credential of systemd). Checked before the start; read anew by a reload, and after a
    refusal."""

    via: Name | None = None
    """`cross-tenant` only: name of the managed identity whose token is shown in place of a secret."""

    authority: Authority = PUBLIC
    """Entra ID's host, that of the cloud in which the application was made: public, US government or China. Not for
    `managed-identity`. It is a closed list, so that nothing is ever shown to another host."""

    shared: Switch = False
    """Whether it may serve accounts of several customer tenants. Then a key is used for an account only if a tag of
    the key names it (docs/customers.md). Off: what one customer grants can serve no other."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        fields, defaults = _FIELDS[self.kind], type(self).model_fields
        given = {name for name in _OF_KINDS if getattr(self, name) != defaults[name].default}
        wrong = [f"{name} does not belong to kind {self.kind}" for name in sorted(given - set(fields))]
        if self.kind != "managed-identity":
            missing = [name for name in fields if name not in {*_OPTIONAL[self.kind], *given}]
            wrong += [f"{name} is missing: {_RIGHT[name]}" for name in missing]
        elif {"client_id", "resource_id"} <= given:
            wrong.append("client_id and resource_id name the identity twice: write one of them")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def check_together(identities: Mapping[str, IdentitySettings]) -> Mapping[str, IdentitySettings]:
    """Give identities that fit each other.

    Raises:
        ValueError: a `via` names no managed identity, or two identities have one `resource_id`.
    """
    wrong = []
    for name, identity in identities.items():
        trusted = None if identity.via is None else identities.get(identity.via)
        if identity.via is not None and (trusted is None or trusted.kind != "managed-identity"):
            there = ", ".join(one for one, other in identities.items() if other.kind == "managed-identity") or "none"
            wrong.append(f"[identities.{name}] via: {identity.via} is no managed identity of these settings: {there}")
    names: dict[str, str] = {}
    for name, identity in identities.items():
        if identity.resource_id is not None:
            first = names.setdefault(identity.resource_id.lower(), name)
            if first != name:
                wrong.append(f"[identities.{name}] resource_id: it is that of [identities.{first}] already")
    if wrong:
        raise ValueError("; ".join(wrong))
    return identities


def names_by_resource_id(identities: Mapping[str, IdentitySettings]) -> Mapping[str, str]:
    """Give the names of the identities that have an ARM id, by that id in lower case."""
    return {one.resource_id.lower(): name for name, one in identities.items() if one.resource_id is not None}
