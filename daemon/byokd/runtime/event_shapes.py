"""What the data of each event looks like, for machines: JSON Schemas and the AsyncAPI document are made from this.

Tests hold every event that is sent to it. docs/events.md says what it means.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from byokd.domain.brake import Among, BrakeMode, Counted, EngagedBy, ReleaseCause
from byokd.domain.vocabulary import DetectedBy, EncryptionType, EventType, State

Time = Annotated[datetime, Field(description="RFC 3339, in UTC with milliseconds")]
Url = Annotated[str, Field(description="the address of a key or of one version of it")]


class Shape(BaseModel):
    """Members as they are written; what is not known here may come in a later version."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False, frozen=True)


class AccountData(Shape):
    """The whole present state of an account: an event carries all of it."""

    account: Annotated[str, Field(description="ARM id, in lower case")]
    incarnation: Annotated[str, Field(description="new each time an account of this id is created")]
    sequence: Annotated[int, Field(ge=1, description="of the event within its incarnation: grows by one, without gaps")]
    state: State
    previous_state: Annotated[State | None, Field(description="the state before, where the event changed it")]
    reason: Annotated[str | None, Field(description="why, from docs/states.md; null when all is well")]
    message: Annotated[str, Field(description="the reason in a sentence")]
    since: Annotated[Time, Field(description="since when state and reason are so")]
    unverified_since: Time | None
    damaged_since: Time | None
    encryption: EncryptionType
    key_identifier: Annotated[Url | None, Field(description="the key as the customer named it; null with SystemKey")]
    current_key_identifier: Annotated[Url | None, Field(description="the exact version that wraps the account key now")]
    detected_by: Annotated[DetectedBy | None, Field(description="what made byokd look; null without a check")]
    observed_at: Annotated[Time | None, Field(description="when the check saw it")]


class AccountUpdatedData(AccountData):
    """An operator changed an account."""

    changed: Annotated[str, Field(description="what was changed, separated by commas")]


class AccountDamagedData(AccountData):
    """An account's own record does not open."""

    damage: Annotated[str, Field(description="how, in words")]


class RewrappedData(AccountData):
    """An account key was moved to another version."""

    previous_key_identifier: Url


class RewrapFailedData(AccountData):
    """An account key could not be moved yet."""

    attempt: Annotated[int, Field(ge=1)]
    failure: Annotated[str, Field(description="why, in words")]
    target_key_identifier: Url


class KeyData(Shape):
    """Something about a key or one version of it."""

    key_identifier: Url


class SeenKeyData(KeyData):
    """What one identity's look at a key showed. Where several identities watch a key, each is told for itself."""

    identity: Annotated[str, Field(description="whose look it was")]
    detected_by: DetectedBy


class VersionDetectedData(SeenKeyData):
    """A newer version proved itself."""

    previous_key_identifier: Url


class KeyWarningData(SeenKeyData):
    """Something is amiss that costs no account its life."""

    message: str


class NearExpiryData(KeyWarningData):
    """The version in use expires soon."""

    expires_at: Time


class AuditHeadsData(Shape):
    """The heads of the signed history."""

    streams: Annotated[int, Field(ge=0)]
    last_event: Annotated[int, Field(ge=0)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BrakeEngagedData(Shape):
    """The brake holds denials, or only tells that it would."""

    engaged_by: EngagedBy
    since: Time
    mode: BrakeMode
    hold_until: Time
    message: str
    counted: Counted | None
    among: Among | None
    identity: str | None
    customers: int | None
    suspected: int | None
    reasons: Annotated[str | None, Field(description="separated by commas")]


class BrakeReleasedData(Shape):
    """The brake let go."""

    cause: ReleaseCause
    held: Annotated[int, Field(ge=0)]
    since: Time


class DaemonData(Shape):
    """Whether a daemon is there."""

    status: Literal["online", "offline"]
    instance: str
    version: str


EVENT_DATA: Mapping[EventType, type[Shape]] = MappingProxyType(
    {
        EventType.ACCOUNT_CREATED: AccountData,
        EventType.ACCOUNT_UPDATED: AccountUpdatedData,
        EventType.ACCOUNT_DELETED: AccountData,
        EventType.ACCOUNT_INACCESSIBLE: AccountData,
        EventType.ACCOUNT_ACCESSIBLE: AccountData,
        EventType.ACCOUNT_UNVERIFIED: AccountData,
        EventType.ACCOUNT_VERIFIED: AccountData,
        EventType.ACCOUNT_DAMAGED: AccountDamagedData,
        EventType.ACCOUNT_REPAIRED: AccountData,
        EventType.ACCOUNTKEY_REWRAPPED: RewrappedData,
        EventType.ACCOUNTKEY_REWRAP_FAILED: RewrapFailedData,
        EventType.KEY_VERSION_DETECTED: VersionDetectedData,
        EventType.KEY_VERSION_RETIRED: KeyData,
        EventType.KEY_NEWEST_VERSION_UNUSABLE: KeyWarningData,
        EventType.KEY_WRAP_NOT_PERMITTED: KeyWarningData,
        EventType.KEY_PURGE_PROTECTION_OFF: KeyWarningData,
        EventType.KEY_SOFT_DELETE_OFF: KeyWarningData,
        EventType.KEY_VAULT_ELSEWHERE: KeyWarningData,
        EventType.KEY_NEAR_EXPIRY: NearExpiryData,
        EventType.KEY_EXPIRED: KeyWarningData,
        EventType.SERVICE_AUDIT_HEADS: AuditHeadsData,
        EventType.SERVICE_BRAKE_ENGAGED: BrakeEngagedData,
        EventType.SERVICE_BRAKE_RELEASED: BrakeReleasedData,
    }
)
DAEMON_DATA: Mapping[str, type[Shape]] = {"byokd.daemon.online": DaemonData, "byokd.daemon.offline": DaemonData}


def flaws(event: Mapping[str, object]) -> list[str]:
    """Say where an event differs from its shape, members that the shape does not have included."""
    shape = {**{str(name): one for name, one in EVENT_DATA.items()}, **DAEMON_DATA}.get(str(event.get("type")))
    if shape is None:
        return [f"no event is of the type {event.get('type')}"]
    data = event.get("data")
    if not isinstance(data, Mapping):
        return ["it has no data"]
    known = {str(field.alias) for field in shape.model_fields.values()}
    unknown = [f"{name}: not described" for name in data if name not in known]
    missing = [f"{name}: missing" for name in known if name not in data]
    try:
        shape.model_validate(data)
    except ValueError as error:
        return [*unknown, *missing, str(error)]
    return unknown + missing
