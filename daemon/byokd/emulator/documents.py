"""The JSON documents of the control API, as its callers see them. Public facts only: no key material, no tokens."""

from typing import TypedDict

from byokd.emulator.subscription_documents import SubscriptionState
from byokd.emulator.vocabulary import Access, Curve, FaultKind, KeyType, Network, Permission, PrincipalKind


class VersionState(TypedDict):
    """One version of a key; times are epoch seconds."""

    version: str
    kid: str
    type: KeyType
    size: int
    enabled: bool
    nbf: int | None
    exp: int | None
    created: int
    updated: int
    key_ops: list[str]
    tags: dict[str, str]


class KeyState(TypedDict):
    """One key; its versions are listed oldest first, `newest` is the id of the last."""

    name: str
    kid: str
    newest: str
    deleted: int | None
    purges: int | None
    versions: list[VersionState]


GrantState = TypedDict(
    "GrantState",
    {
        "principal": str | None,
        "object_id": str,
        "permission": Permission,
        "key": str | None,
        "access": Access,
        "from": float,
        "until": float | None,
    },
)
"""One permission of one principal; `key` None means the whole vault."""


class VaultState(TypedDict):
    """One vault."""

    name: str
    url: str
    tenant: str
    region: str
    resource_id: str
    soft_delete: bool
    soft_delete_days: int
    purge_protection: bool
    recovery_level: str
    settle_seconds: float
    network: Network
    access: Access
    deleted: int | None
    keys: list[KeyState]
    deleted_keys: list[KeyState]
    grants: list[GrantState]
    readers: list[str]
    subscriptions: list[SubscriptionState]


class PrincipalState(TypedDict):
    """One identity or application."""

    name: str
    kind: PrincipalKind
    tenant: str
    client_id: str
    object_id: str
    tenants: list[str]
    resource_id: str | None
    disabled: bool
    disabled_in: list[str]
    attached: bool


class FaultState(TypedDict):
    """One fault that waits."""

    id: int
    target: str
    kind: FaultKind
    operations: list[str]
    share: float
    count: int | None
    until: float | None


class CallCount(TypedDict):
    """How often something was asked and answered so; status 0: no answer."""

    target: str
    operation: str
    status: int
    code: str
    count: int


class WorldState(TypedDict):
    """Everything that may be seen."""

    now: float
    tenants: dict[str, bool]
    principals: list[PrincipalState]
    vaults: list[VaultState]
    faults: list[FaultState]
    dialects: dict[str, bool]
    application_token_seconds: int
    identity_token_seconds: int
    role_delay_seconds: float


class KeyAttributes(TypedDict, total=False):
    """What can be chosen for a key or a new version; what is left out takes the service's default."""

    type: KeyType
    size: int
    curve: Curve
    enabled: bool
    nbf: int | None
    exp: int | None
    key_ops: list[str]
    tags: dict[str, str]


class KeyChange(TypedDict, total=False):
    """What can be changed of a version; None unsets a time."""

    enabled: bool
    nbf: int | None
    exp: int | None
    key_ops: list[str]
    tags: dict[str, str]


class VaultOptions(TypedDict, total=False):
    """What can be chosen for a vault."""

    tenant: str
    region: str
    soft_delete_days: int
    purge_protection: bool
    settle_seconds: float
    access: Access


class VaultChange(TypedDict, total=False):
    """What can be changed of a vault."""

    network: Network
    access: Access
    tenant: str
    region: str
    soft_delete: bool
    purge_protection: bool
    settle_seconds: float


class ApplicationOptions(TypedDict, total=False):
    """What can be chosen for an application."""

    tenant: str
    client_id: str
    secret: str
    certificates: list[str]
    federations: list[dict[str, str]]
    consented: list[str]


class ApplicationChange(TypedDict, total=False):
    """What can be changed of an application; `disable_in` and `enable_in` name a tenant that does so for itself."""

    disabled: bool
    consent: str
    withdraw: str
    disable_in: str
    enable_in: str


class FaultOptions(TypedDict, total=False):
    """When a fault strikes, and the details of its kind."""

    operations: list[str]
    share: float
    count: int
    duration_seconds: float
    seconds: float
    retry_after: int
    status: int
    code: str
    inner: str
    message: str
    versions_back: int
