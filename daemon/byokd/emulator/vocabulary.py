"""The closed vocabularies of the emulator."""

from enum import StrEnum, unique
from typing import Final


@unique
class Permission(StrEnum):
    """What a principal may do with the keys of a vault, spelled as Key Vault spells it."""

    GET = "get"
    LIST = "list"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RECOVER = "recover"
    PURGE = "purge"
    ROTATE = "rotate"
    WRAP_KEY = "wrapKey"
    UNWRAP_KEY = "unwrapKey"


RBAC_ACTION: Final = {
    Permission.GET: "Microsoft.KeyVault/vaults/keys/read",
    Permission.LIST: "Microsoft.KeyVault/vaults/keys/read",
    Permission.CREATE: "Microsoft.KeyVault/vaults/keys/create/action",
    Permission.UPDATE: "Microsoft.KeyVault/vaults/keys/update/action",
    Permission.DELETE: "Microsoft.KeyVault/vaults/keys/delete",
    Permission.RECOVER: "Microsoft.KeyVault/vaults/keys/recover/action",
    Permission.PURGE: "Microsoft.KeyVault/vaults/keys/purge/action",
    Permission.ROTATE: "Microsoft.KeyVault/vaults/keys/rotate/action",
    Permission.WRAP_KEY: "Microsoft.KeyVault/vaults/keys/wrap/action",
    Permission.UNWRAP_KEY: "Microsoft.KeyVault/vaults/keys/unwrap/action",
}
"""The data action that a role needs for each permission, as named in the refusals of the service (documentation)."""

ENCRYPTION_USER: Final = (Permission.GET, Permission.WRAP_KEY, Permission.UNWRAP_KEY)
"""What the role *Key Vault Crypto Service Encryption User* allows (documentation): the default of a grant."""


@unique
class KeyType(StrEnum):
    """The `kty` of a key."""

    RSA = "RSA"
    RSA_HSM = "RSA-HSM"
    EC = "EC"
    EC_HSM = "EC-HSM"


@unique
class Curve(StrEnum):
    """The curve of an EC key."""

    P256 = "P-256"
    P384 = "P-384"
    P521 = "P-521"


@unique
class Network(StrEnum):
    """What the network settings of a vault say to our address."""

    OPEN = "open"
    FIREWALL = "firewall"
    CONNECTION = "connection"


@unique
class Access(StrEnum):
    """Who decides over a vault's keys: role assignments, or the vault's own access policies."""

    ROLES = "roles"
    POLICIES = "policies"


@unique
class Scope(StrEnum):
    """Where a role is assigned, seen from a vault."""

    VAULT = "vault"
    GROUP = "group"
    SUBSCRIPTION = "subscription"


@unique
class PrincipalKind(StrEnum):
    """What a principal is."""

    SYSTEM_ASSIGNED = "system"
    USER_ASSIGNED = "user"
    APPLICATION = "application"


@unique
class Dialect(StrEnum):
    """A switchable behaviour, for each place where what is known of the service disagrees."""

    DISABLED_GET_REFUSED = "disabled_get_refused"
    EXPIRED_UNWRAP_REFUSED = "expired_unwrap_refused"
    FORBIDDEN_WITHOUT_INNER_CODE = "forbidden_without_inner_code"
    EVENTS_AS_IN_THE_SAMPLE = "events_as_in_the_sample"


@unique
class Topic(StrEnum):
    """Whose events a subscription is for: the vault itself, or ARM's about it."""

    KEY_VAULT = "keyvault"
    RESOURCES = "resources"


@unique
class Schema(StrEnum):
    """The envelope of events, spelled as Event Grid spells it."""

    EVENT_GRID = "EventGridSchema"
    CLOUD_EVENTS = "CloudEventSchemaV1_0"


@unique
class EndpointType(StrEnum):
    """What a subscription delivers to."""

    WEBHOOK = "webhook"
    QUEUE = "queue"


@unique
class EventType(StrEnum):
    """What Event Grid tells of vaults, keys and resources. A key's deletion or disabling has no event."""

    KEY_NEW_VERSION = "Microsoft.KeyVault.KeyNewVersionCreated"
    KEY_NEAR_EXPIRY = "Microsoft.KeyVault.KeyNearExpiry"
    KEY_EXPIRED = "Microsoft.KeyVault.KeyExpired"
    ACCESS_POLICY = "Microsoft.KeyVault.VaultAccessPolicyChanged"
    RESOURCE_WRITE = "Microsoft.Resources.ResourceWriteSuccess"
    RESOURCE_DELETE = "Microsoft.Resources.ResourceDeleteSuccess"
    RESOURCE_ACTION = "Microsoft.Resources.ResourceActionSuccess"


@unique
class Operation(StrEnum):
    """What a request asks for, as calls are counted and faults are aimed."""

    GET = "get"
    LIST = "list"
    VERSIONS = "versions"
    CREATE = "create"
    ROTATE = "rotate"
    UPDATE = "update"
    DELETE = "delete"
    GET_DELETED = "getDeleted"
    LIST_DELETED = "listDeleted"
    RECOVER = "recover"
    PURGE = "purge"
    WRAP_KEY = "wrapKey"
    UNWRAP_KEY = "unwrapKey"
    TOKEN = "token"  # noqa: S105 - a name, not a secret
    METADATA = "metadata"
    VALIDATE = "validate"
    DELIVER = "deliver"
    UNKNOWN = "unknown"


@unique
class FaultKind(StrEnum):
    """What bad luck can do to a request."""

    THROTTLE = "throttle"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    ANSWER = "answer"
    LATENCY = "latency"
    HANG = "hang"
    RESET = "reset"
    TRUNCATED = "truncated"
    PROXY_PAGE = "proxy_page"
    STALE_READ = "stale_read"
    WRONG_UNWRAP = "wrong_unwrap"
    DUPLICATE = "duplicate"


ALL_VAULTS: Final = "*"
ENTRA: Final = "entra"
MANAGED_IDENTITY: Final = "managed-identity"
ARM: Final = "arm"
EVENT_GRID: Final = "event-grid"
"""Targets of faults, and names under which calls are counted, beside the names of vaults."""
