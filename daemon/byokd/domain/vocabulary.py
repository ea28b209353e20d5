"""The closed vocabularies. Each value has a row in docs/states.md or docs/events.md, and a test that says so."""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """What an account can do: everything, or only GET, LIST and DELETE."""

    ACCESSIBLE = "Accessible"
    INACCESSIBLE = "Inaccessible"


class EncryptionType(StrEnum):
    """Which key wraps the account key, in the words of the ARM contract."""

    SYSTEM_KEY = "SystemKey"
    CUSTOMER_KEY = "CustomerKey"


class Outcome(StrEnum):
    """What one check saw of one wrapping version."""

    USABLE = "Usable"
    DENIED = "Denied"
    UNVERIFIED = "Unverified"


class Reason(StrEnum):
    """Why a wrapping version is denied or unverified. A reason never travels without its message."""

    KEY_DISABLED = "KeyDisabled"
    KEY_EXPIRED = "KeyExpired"
    KEY_NOT_YET_VALID = "KeyNotYetValid"
    KEY_OPERATION_NOT_PERMITTED = "KeyOperationNotPermitted"
    ACCESS_DENIED = "AccessDenied"
    NETWORK_BLOCKED = "NetworkBlocked"
    KEY_NOT_FOUND = "KeyNotFound"
    KEY_VERSION_NOT_FOUND = "KeyVersionNotFound"
    PROBE_MISMATCH = "ProbeMismatch"
    WRONG_TENANT = "WrongTenant"
    CONSENT_WITHDRAWN = "ConsentWithdrawn"
    VAULT_NOT_FOUND = "VaultNotFound"
    UNVERIFIED = "Unverified"

    THROTTLED = "Throttled"
    VAULT_ERROR = "VaultError"
    TIMED_OUT = "TimedOut"
    CONNECTION_FAILED = "ConnectionFailed"
    TLS_FAILED = "TlsFailed"
    NAME_NOT_RESOLVED = "NameNotResolved"
    UNAUTHORIZED = "Unauthorized"
    FOREIGN_ANSWER = "ForeignAnswer"
    UNREADABLE_ANSWER = "UnreadableAnswer"
    TOKEN_UNAVAILABLE = "TokenUnavailable"  # noqa: S105 - a reason, not a secret


SILENCES: Final = frozenset(
    {
        Reason.THROTTLED,
        Reason.VAULT_ERROR,
        Reason.TIMED_OUT,
        Reason.CONNECTION_FAILED,
        Reason.TLS_FAILED,
        Reason.NAME_NOT_RESOLVED,
        Reason.UNAUTHORIZED,
        Reason.FOREIGN_ANSWER,
        Reason.UNREADABLE_ANSWER,
        Reason.TOKEN_UNAVAILABLE,
    }
)
"""Reasons for which nothing is known of a key: the vault did not say anything of it."""


class AccountFault(StrEnum):
    """What is wrong with one account alone, whatever its customer's key says: no denial, and never its state."""

    ACCOUNT_KEY_DAMAGED = "AccountKeyDamaged"


class RefusalKind(StrEnum):
    """What a genuine refusal by the vault, by Entra for the pinned tenant, or by DNS for the vault's name says."""

    KEY_DISABLED = "KeyDisabled"
    OPERATION_FORBIDDEN = "KeyOperationForbidden"
    ACCESS_DENIED = "AccessDenied"
    NETWORK_BLOCKED = "NetworkBlocked"
    NOT_FOUND = "NotFound"
    BAD_REQUEST = "BadRequest"
    WRONG_TENANT = "WrongTenant"
    CONSENT_WITHDRAWN = "ConsentWithdrawn"
    VAULT_NOT_FOUND = "VaultNotFound"


class WarningKind(StrEnum):
    """What is amiss with a watch whose accounts nevertheless live."""

    NEWEST_VERSION_UNUSABLE = "NewestVersionUnusable"
    NEW_VERSIONS_UNSEEN = "NewVersionsUnseen"
    KEY_EXPIRED = "KeyExpired"
    KEY_NOT_YET_VALID = "KeyNotYetValid"
    NEAR_EXPIRY = "NearExpiry"
    PINNED_VERSION_SUPERSEDED = "PinnedVersionSuperseded"
    WRAP_NOT_PERMITTED = "WrapNotPermitted"
    PURGE_PROTECTION_OFF = "PurgeProtectionOff"
    SOFT_DELETE_OFF = "SoftDeleteOff"
    VAULT_ELSEWHERE = "VaultElsewhere"


class DetectedBy(StrEnum):
    """What made byokd look."""

    POLL = "poll"
    HINT = "hint"
    OPERATOR = "operator"


class EventType(StrEnum):
    """CloudEvents types on the bus."""

    ACCOUNT_CREATED = "byokd.account.created"
    ACCOUNT_UPDATED = "byokd.account.updated"
    ACCOUNT_DELETED = "byokd.account.deleted"
    ACCOUNT_INACCESSIBLE = "byokd.account.inaccessible"
    ACCOUNT_ACCESSIBLE = "byokd.account.accessible"
    ACCOUNT_UNVERIFIED = "byokd.account.unverified"
    ACCOUNT_VERIFIED = "byokd.account.verified"
    ACCOUNT_DAMAGED = "byokd.account.damaged"
    ACCOUNT_REPAIRED = "byokd.account.repaired"
    ACCOUNTKEY_REWRAPPED = "byokd.accountkey.rewrapped"
    ACCOUNTKEY_REWRAP_FAILED = "byokd.accountkey.rewrap-failed"
    KEY_VERSION_DETECTED = "byokd.key.version-detected"
    KEY_VERSION_RETIRED = "byokd.key.version-retired"
    KEY_NEWEST_VERSION_UNUSABLE = "byokd.key.newest-version-unusable"
    KEY_WRAP_NOT_PERMITTED = "byokd.key.wrap-not-permitted"
    KEY_PURGE_PROTECTION_OFF = "byokd.key.purge-protection-off"
    KEY_SOFT_DELETE_OFF = "byokd.key.soft-delete-off"
    KEY_VAULT_ELSEWHERE = "byokd.key.vault-elsewhere"
    KEY_NEAR_EXPIRY = "byokd.key.near-expiry"
    KEY_EXPIRED = "byokd.key.expired"
    SERVICE_AUDIT_HEADS = "byokd.service.audit-heads"
    SERVICE_BRAKE_ENGAGED = "byokd.service.brake-engaged"
    SERVICE_BRAKE_RELEASED = "byokd.service.brake-released"


class ValueKind(StrEnum):
    """What a protected value is."""

    CONTENT_KEY = "content-key"
    JOB_INPUT_URL = "job-input-url"
    TOKEN_KEY = "token-key"  # noqa: S105 - a kind, not a secret
