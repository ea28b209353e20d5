"""Who can ask: managed identities and applications, per tenant. State only."""

import uuid
from dataclasses import dataclass, field

from byokd.emulator.vocabulary import PrincipalKind


@dataclass(frozen=True, slots=True)
class Federation:
    """Assertions that an application accepts in place of a secret.

    `public_key` is the issuer's, as PEM; without it the issuer is this emulator's own Entra ID.
    """

    issuer: str
    subject: str
    audience: str = "api://AzureADTokenExchange"
    public_key: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an application proves itself with. Never part of a view."""

    secret: str | None = field(default=None, repr=False)
    certificates: tuple[str, ...] = field(default=(), repr=False)
    federations: tuple[Federation, ...] = ()


@dataclass(slots=True)
class Principal:
    """An identity or application, with its object id in each tenant that knows it."""

    name: str
    kind: PrincipalKind
    tenant_id: str
    client_id: str
    object_ids: dict[str, str]
    resource_id: str | None = None
    credentials: Credentials = field(default_factory=Credentials)
    disabled: bool = False
    attached: bool = True
    """Whether the machine has it, of a managed identity."""
    disabled_in: set[str] = field(default_factory=set)
    """Tenants that disabled an application for themselves."""

    @property
    def object_id(self) -> str:
        """The object id at home."""
        return self.object_ids[self.tenant_id]

    def answers_to(self, parameter: str, value: str) -> bool:
        """Whether a managed-identity endpoint would mean this identity by `parameter=value`."""
        if self.kind is PrincipalKind.APPLICATION:
            return False
        known = {
            "client_id": self.client_id,
            "object_id": self.object_id,
            "principal_id": self.object_id,
            "msi_res_id": self.resource_id,
            "mi_res_id": self.resource_id,
        }.get(parameter)
        return known is not None and known.lower() == value.lower()


def stable_id(*words: str) -> str:
    """A GUID that is the same in every world for the same words, so that settings can name it beforehand."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "https://emulator.invalid/" + "/".join(words).lower()))
