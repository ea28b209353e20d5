"""What the control API takes: one model per request. A field that is not in the model is an error."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from byokd.emulator.faults import Fault
from byokd.emulator.principals import Credentials, Federation
from byokd.emulator.vaults import Attributes
from byokd.emulator.vocabulary import (
    ENCRYPTION_USER,
    Access,
    Curve,
    Dialect,
    FaultKind,
    KeyType,
    Network,
    Operation,
    Permission,
    PrincipalKind,
)

_GUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
Guid = Annotated[str, StringConstraints(pattern=_GUID, to_lower=True)]
VaultName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z](?!.*--)[A-Za-z0-9-]{1,22}[A-Za-z0-9]$")]
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,127}$")]
PrincipalName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
KeyOperation = Literal["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "export"]


class Command(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, regex_engine="python-re")


class CreateVault(Command):
    """A new vault, empty and closed to everyone."""

    name: VaultName
    tenant: Guid | None = None
    region: str = "westeurope"
    soft_delete_days: Annotated[int, Field(ge=7, le=90)] = 90
    purge_protection: bool = False
    settle_seconds: Annotated[float, Field(ge=0)] = 0.0
    access: Access = Access.ROLES


class ChangeVault(Command):
    """What is given is changed."""

    network: Network | None = None
    access: Access | None = None
    tenant: Guid | None = None
    region: str | None = None
    soft_delete: bool | None = None
    purge_protection: bool | None = None
    settle_seconds: Annotated[float | None, Field(ge=0)] = None


class RotateKey(Command):
    """A new version of a key; what is not given stays as in the newest version, but nbf, exp and enabled."""

    type: KeyType | None = None
    size: Annotated[int | None, Field(ge=1024, le=8192)] = None
    curve: Curve | None = None
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    key_ops: tuple[KeyOperation, ...] | None = None
    tags: dict[str, str] = {}

    def attributes(self, key_ops: tuple[str, ...] | None = None) -> Attributes:
        """For the new version; `key_ops` are those to take when none are given."""
        operations = self.key_ops if self.key_ops is not None else key_ops
        return Attributes(key_ops=operations, enabled=self.enabled, nbf=self.nbf, exp=self.exp, tags=self.tags)


class CreateKey(RotateKey):
    """A new key, or a new version when there is one of that name."""

    name: KeyName


class ChangeKey(Command):
    """Changes one version, by id or as `newest`, or `all`; only what is given is changed, and null unsets a time."""

    version: Annotated[str, StringConstraints(pattern=r"^(newest|all|[0-9a-f]{32})$")] = "newest"
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    key_ops: tuple[KeyOperation, ...] = ()
    tags: dict[str, str] = {}


class Grant(Command):
    """Permissions for a principal, for the vault or one key; by default the role Crypto Service Encryption User."""

    principal: str = "system"
    permissions: tuple[Permission, ...] = ENCRYPTION_USER
    key: KeyName | None = None
    delay_seconds: Annotated[float, Field(ge=0)] = 0.0


class Revoke(Grant):
    """Takes permissions away, by default all."""

    permissions: tuple[Permission, ...] = tuple(Permission)


class SetReader(Command):
    """The role Reader on a vault at ARM: given, or taken away."""

    principal: str = "system"
    present: bool = True


class CreateIdentity(Command):
    """A managed identity of the machine."""

    name: PrincipalName
    kind: Literal[PrincipalKind.USER_ASSIGNED, PrincipalKind.SYSTEM_ASSIGNED] = PrincipalKind.USER_ASSIGNED
    tenant: Guid | None = None


class ChangeIdentity(Command):
    """Takes a managed identity away from the machine, or gives it back."""

    attached: bool


class Trust(Command):
    """An issuer whose assertions an application accepts."""

    issuer: str
    subject: str
    audience: str = "api://AzureADTokenExchange"
    public_key: str | None = None


class CreateApplication(Command):
    """An application, at home in one tenant and let into others."""

    name: PrincipalName
    tenant: Guid | None = None
    client_id: Guid | None = None
    secret: str | None = None
    certificates: tuple[str, ...] = ()
    federations: tuple[Trust, ...] = ()
    consented: tuple[Guid, ...] = ()

    def credentials(self) -> Credentials:
        """What the application proves itself with."""
        trusted = tuple(Federation(**one.model_dump()) for one in self.federations)
        return Credentials(self.secret, self.certificates, trusted)


class ChangeApplication(Command):
    """Disables or enables an application, lets it into a tenant or throws it out."""

    disabled: bool | None = None
    consent: Guid | None = None
    withdraw: Guid | None = None
    disable_in: Guid | None = None
    enable_in: Guid | None = None


class ChangeTenant(Command):
    """Removes a tenant or brings it back."""

    present: bool


class SetFault(Command):
    """Bad luck: until `count` strikes or `duration_seconds` have passed, or cleared."""

    target: str
    kind: FaultKind
    operations: tuple[Operation, ...] = ()
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    count: Annotated[int | None, Field(ge=1)] = None
    duration_seconds: Annotated[float | None, Field(gt=0)] = None
    seconds: Annotated[float | None, Field(ge=0)] = None
    retry_after: Annotated[int | None, Field(ge=0)] = None
    status: Annotated[int | None, Field(ge=400, le=599)] = None
    code: str | None = None
    inner: str | None = None
    message: str | None = None
    versions_back: Annotated[int, Field(ge=1)] = 1

    def fault(self, now: float) -> Fault:
        """The fault, set at `now`."""
        until = None if self.duration_seconds is None else now + self.duration_seconds
        given = self.model_dump(exclude={"duration_seconds", "operations"})
        return Fault(**given, operations=frozenset(self.operations), until=until)


class ChangeSettings(Command):
    """Lifetimes of tokens issued from now on, how long changes of roles take to be known, and dialects."""

    application_token_seconds: Annotated[int | None, Field(ge=1)] = None
    identity_token_seconds: Annotated[int | None, Field(ge=1)] = None
    role_delay_seconds: Annotated[float | None, Field(ge=0)] = None
    dialects: dict[Dialect, bool] = {}
