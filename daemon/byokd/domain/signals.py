"""What deliveries of Event Grid say, read leniently: which vault or key somebody should look at.

A signal makes a check happen sooner and never says how the check ends. So what cannot be understood is passed over, and
nothing of it is stored, shown or asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

VALIDATION: Final = "Microsoft.EventGrid.SubscriptionValidationEvent"
"""Event Grid's own first event, which asks whether we want the others."""

MOST_TEXT: Final = 2048
"""Characters of any word that is looked at; real ones have a few hundred."""

_OF_KEYS: Final = frozenset(
    f"microsoft.keyvault.{name}" for name in ("keynewversioncreated", "keynearexpiry", "keyexpired")
)
_OF_VAULTS: Final = frozenset({"microsoft.keyvault.vaultaccesspolicychanged"})
_OF_RESOURCES: Final = re.compile(r"microsoft\.resources\.resource(write|delete|action)(success|failure|cancel)")
_VAULT: Final = re.compile(r"[a-z0-9-]{3,24}")
_KEY: Final = re.compile(r"[a-z0-9-]{1,127}")
_IN_RESOURCE: Final = re.compile(r"/providers/microsoft\.keyvault/vaults/([^/]+)(?:/keys/([^/]+))?", re.ASCII)


class DeliveryUnreadableError(Exception):
    """It is no delivery in either schema; the text says why, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something may have happened.

    Attributes:
        id: of the event; the same again when it is delivered again.
        vault: its name in lower case, or its host where the event tells that.
        key: the name of the key in lower case; None: any of the vault's.
    """

    id: str
    vault: str
    key: str | None

    @property
    def is_host(self) -> bool:
        """Whether `vault` is a host."""
        return "." in self.vault


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was delivered.

    Attributes:
        signals: what concerns vaults and keys.
        passed_over: how many events do not.
        validation_code: what to answer with, where Event Grid asks whether we want its events.
    """

    signals: tuple[Signal, ...]
    passed_over: int
    validation_code: str | None = None


def read_delivery(document: object) -> Delivery:
    """Read one event or several, of either schema; what is no event among them is passed over.

    Raises:
        DeliveryUnreadableError: it is neither.
    """
    events = document if isinstance(document, list) else [document]
    fields = [_fields(event) for event in events if isinstance(event, Mapping)]
    if not fields:
        raise DeliveryUnreadableError("a delivery is an event, or a list of events")
    for of_event in fields:
        if _text(of_event, "eventtype") == VALIDATION:
            return Delivery((), 0, _validation_code(of_event))
    signals = [signal for of_event in fields if (signal := _signal(of_event)) is not None]
    return Delivery(tuple(signals), len(events) - len(signals))


def _signal(event: Mapping[str, object]) -> Signal | None:
    kind = (_text(event, "type") or _text(event, "eventtype")).lower()
    data = event.get("data")
    about = _fields(data) if isinstance(data, Mapping) else {}
    if kind in _OF_KEYS:
        place = _of_key(about)
    elif kind in _OF_VAULTS:
        place = (_text(about, "vaultname").lower(), None)
    elif _OF_RESOURCES.fullmatch(kind):
        place = _of_resource(_text(about, "resourceuri"))
    else:
        return None
    vault, key = place
    named = _VAULT.fullmatch(vault.partition(".")[0]) and (key is None or _KEY.fullmatch(key))
    return Signal(_text(event, "id"), vault, key) if named else None


def _of_key(data: Mapping[str, object]) -> tuple[str, str | None]:
    """Give vault and key: by the key's address where that can be read, else by the names."""
    try:
        url = urlsplit(_text(data, "id").lower())
        host, path = url.hostname or "", url.path.split("/")
    except ValueError:
        host, path = "", []
    if host and len(path) > 2 and path[1] == "keys" and path[2]:  # noqa: PLR2004 - /keys/NAME
        return host, path[2]
    return _text(data, "vaultname").lower(), _text(data, "objectname").lower()


def _of_resource(uri: str) -> tuple[str, str | None]:
    found = _IN_RESOURCE.search(unquote(uri).lower())
    return ("", None) if found is None else (found[1], found[2])


def _validation_code(event: Mapping[str, object]) -> str:
    data = event.get("data")
    code = _text(_fields(data), "validationcode") if isinstance(data, Mapping) else ""
    if not code:
        raise DeliveryUnreadableError("the validation event has no validationCode")
    return code


def _fields(document: Mapping[object, object]) -> Mapping[str, object]:
    """Give the fields by trimmed names in lower case: samples of the service have blanks around them."""
    return {str(name)[:MOST_TEXT].strip().lower(): value for name, value in document.items()}


def _text(document: Mapping[str, object], name: str) -> str:
    """Give a word, in which halves of characters, which JSON can name and nobody can write, are spelt out."""
    value = document.get(name)
    words = value[:MOST_TEXT].strip() if isinstance(value, str) else ""
    return words.encode(errors="backslashreplace").decode()
