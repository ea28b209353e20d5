"""Events of Key Vault and ARM as Event Grid writes them, in both envelopes."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from byokd.emulator import views
from byokd.emulator.vaults import Key, KeyVersion, Vault
from byokd.emulator.vocabulary import EventType, Schema

Document = dict[str, object]
_JSON: Final = "application/json; charset=utf-8"
_CLOUD_EVENT: Final = "application/cloudevents+json; charset=utf-8"
_CLOUD_EVENTS: Final = "application/cloudevents-batch+json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class GridEvent:
    """Something that happened at `time` (epoch seconds); delivered again it keeps its `id`."""

    type: EventType
    topic: str
    subject: str
    time: float
    data: Document
    data_version: str = "1"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def envelope(self, schema: Schema) -> Document:
        """The event as JSON."""
        when = written_time(self.time)
        if schema is Schema.CLOUD_EVENTS:
            return {
                "id": self.id,
                "source": self.topic,
                "specversion": "1.0",
                "type": self.type,
                "subject": self.subject,
                "time": when,
                "data": self.data,
            }
        return {
            "id": self.id,
            "topic": self.topic,
            "subject": self.subject,
            "eventType": self.type,
            "eventTime": when,
            "data": self.data,
            "dataVersion": self.data_version,
            "metadataVersion": "1",
        }


def key_event(
    kind: EventType, vault: Vault, key: Key, version: KeyVersion, *, now: float, as_sample: bool
) -> GridEvent:
    """An event of one version of a key.

    `as_sample` writes the data as the sample in the documentation does: a space after one name and before one value,
    and times as strings.
    """
    name = "ObjectName " if as_sample else "ObjectName"
    data: Document = {
        "Id": views.identifier(vault, key.name, version),
        "VaultName": vault.name,
        "ObjectType": "Key",
        name: key.name,
        "Version": f" {version.id}" if as_sample else version.id,
        "NBF": _moment(version.nbf, as_sample=as_sample),
        "EXP": _moment(version.exp, as_sample=as_sample),
    }
    return GridEvent(kind, vault.arm_id, key.name, now, data)


def policy_event(vault: Vault, *, now: float, as_sample: bool) -> GridEvent:
    """The access policies of a vault changed."""
    name = "ObjectName " if as_sample else "ObjectName"
    data: Document = {
        "Id": f"https://{vault.host}",
        "VaultName": vault.name,
        "ObjectType": "AccessPolicy",
        name: vault.name,
        "Version": None,
        "NBF": None,
        "EXP": None,
    }
    return GridEvent(EventType.ACCESS_POLICY, vault.arm_id, vault.name, now, data)


def resource_event(vault: Vault, operation: str, resource: str, *, now: float) -> GridEvent:
    """ARM did something; the last word of the operation tells which kind of event it is."""
    kinds = {"delete": EventType.RESOURCE_DELETE, "action": EventType.RESOURCE_ACTION}
    data: Document = {
        "authorization": {"scope": resource, "action": operation, "evidence": {"role": "Owner"}},
        "claims": {},
        "correlationId": str(uuid.uuid4()),
        "resourceProvider": operation.partition("/")[0],
        "resourceUri": resource,
        "operationName": operation,
        "status": "Succeeded",
        "subscriptionId": vault.subscription_id,
        "tenantId": vault.tenant_id,
    }
    kind = kinds.get(operation.rpartition("/")[2], EventType.RESOURCE_WRITE)
    return GridEvent(kind, f"/subscriptions/{vault.subscription_id}", resource, now, data, data_version="2")


def written(events: Sequence[GridEvent], schema: Schema, *, batched: bool) -> tuple[str, bytes]:
    """Content type and body of a delivery: an array, but for CloudEvents that are not batched."""
    envelopes = [one.envelope(schema) for one in events]
    if schema is Schema.EVENT_GRID:
        return _JSON, json.dumps(envelopes).encode()
    if batched:
        return _CLOUD_EVENTS, json.dumps(envelopes).encode()
    return _CLOUD_EVENT, json.dumps(envelopes[0]).encode()


def written_time(seconds: float) -> str:
    """A moment with the seven decimals that Event Grid writes."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def _moment(seconds: int | None, *, as_sample: bool) -> int | str | None:
    return str(seconds) if as_sample and seconds is not None else seconds
