"""docs/asyncapi.json, an AsyncAPI 3 document of all events with their JSON Schemas, generated from the code.

`python -m byokd.runtime.asyncapi docs/asyncapi.json` writes it; a test keeps it true.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from byokd.domain.vocabulary import EventType
from byokd.runtime.envelope import TRIAL
from byokd.runtime.event_shapes import DAEMON_DATA, EVENT_DATA, Shape

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
PREFIX: Final = "byokd/v1"
"""The default of `mqtt.topic_prefix`."""

_REF: Final = "#/components/schemas/{model}"
_ACCOUNT: Final = ("subscription", "resourceGroup", "name")
_CHANNELS: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "accountEvents": (
        "accounts/{subscription}/{resourceGroup}/{name}/events",
        _ACCOUNT,
        "What happened to an account, in order.",
    ),
    "accountState": (
        "accounts/{subscription}/{resourceGroup}/{name}/state",
        _ACCOUNT,
        "Retained: the last event of an account, and so its present state; without payload once it is deleted.",
    ),
    "keyEvents": ("keys/{vaultHost}/{keyName}/events", ("vaultHost", "keyName"), "Versions of a customer key."),
    "serviceEvents": ("service/events", (), "The brake, and the heads of the signed history."),
    "daemonStatus": ("daemons/{instance}/status", ("instance",), "Retained: whether a daemon is there."),
}


def document() -> dict[str, Any]:
    """Give the whole document."""
    schemas = _schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "byokd",
            "version": "1",
            "description": (
                "What byokd tells an MQTT 5 broker, at QoS 1. docs/events.md says what may be relied on. Types that "
                f"are not named here are to be ignored: new ones, and {TRIAL}, by which `byokd doctor` tries topics."
            ),
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {name: _channel(name) for name in _CHANNELS},
        "operations": {
            f"hear{name[0].upper()}{name[1:]}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{name}"},
                "bindings": {"mqtt": {"qos": 1}},
            }
            for name in _CHANNELS
        },
        "components": {
            "messages": {
                _name(type_): _message(type_, shape)
                for type_, shape in {**{str(one): shape for one, shape in EVENT_DATA.items()}, **DAEMON_DATA}.items()
            },
            "schemas": schemas,
        },
    }


def page() -> str:
    """Give docs/asyncapi.json."""
    return json.dumps(document(), indent=2) + "\n"


def _schemas() -> dict[str, Any]:
    shapes = dict.fromkeys([*EVENT_DATA.values(), *DAEMON_DATA.values()])
    _, found = models_json_schema([(shape, "validation") for shape in shapes], ref_template=_REF)
    definitions: dict[str, Any] = found["$defs"]
    return definitions


def _channel(name: str) -> dict[str, Any]:
    address, parameters, words = _CHANNELS[name]
    channel: dict[str, Any] = {
        "address": f"{PREFIX}/{address}",
        "description": words,
        "messages": {_name(one): {"$ref": f"#/components/messages/{_name(one)}"} for one in _types_on(name)},
    }
    if parameters:
        channel["parameters"] = {parameter: {} for parameter in parameters}
    return channel


def _types_on(channel: str) -> Iterable[str]:
    if channel == "daemonStatus":
        return DAEMON_DATA
    kinds = {"accountEvents": ("account", "accountkey"), "keyEvents": ("key",), "serviceEvents": ("service",)}
    wanted = kinds.get(channel, ("account", "accountkey"))
    left_out = {EventType.ACCOUNT_DELETED} if channel == "accountState" else set()
    return [str(one) for one in EVENT_DATA if one.split(".")[1] in wanted and one not in left_out]


def _message(type_: str, shape: type[Shape]) -> dict[str, Any]:
    required = ["specversion", "id", "source", "type", "subject", "datacontenttype", "data"]
    text = {"type": "string"}
    return {
        "name": type_,
        "contentType": CONTENT_TYPE,
        "payload": {
            "type": "object",
            "required": required if type_ in DAEMON_DATA else [*required, "time"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {**text, "format": "uuid"},
                "source": {**text, "format": "uri-reference"},
                "type": {"const": type_},
                "subject": text,
                "time": {**text, "format": "date-time"},
                "datacontenttype": {"const": "application/json"},
                "data": {"$ref": _REF.format(model=shape.__name__)},
            },
        },
    }


def _name(type_: str) -> str:
    words = type_.removeprefix("byokd.").replace("-", ".").split(".")
    return words[0] + "".join(word.capitalize() for word in words[1:])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
