"""Reads an accounts file (YAML or TOML). Either all of it is right, or every mistake is named with its line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import (
    AccountId,
    IdentifierInvalidError,
    IdentityName,
    KeyIdentifier,
    TenantId,
    parse_tenant,
    printable,
    shown,
)
from byokd.domain.properties import region
from byokd.runtime.identity_references import IdentityReferenceError, find_identity
from byokd.runtime.places import Document, Place, UnreadableError, read_toml, read_yaml

MAX_CHARS = 16 * 1024 * 1024
"""Room for some 50,000 accounts; more belong into several files."""

Format = Literal["yaml", "toml"]

_LOCATION = re.compile(r"[a-z0-9]{2,40}", re.ASCII)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_TYPES = ("SystemKey", "CustomerKey")
_KEY_FIELDS = ("keyIdentifier",)
_MOST_MESSAGE_CHARS = 500

_MESSAGES: Mapping[str, str] = {
    "extra_forbidden": "there is no such field",
    "missing": "is missing",
    "list_type": "is not a list",
    "model_type": "is not a mapping of fields",
    "model_attributes_type": "is not a mapping of fields",
    "union_tag_invalid": f"type is neither {_TYPES[0]} nor {_TYPES[1]}",
    "union_tag_not_found": f"type is missing: {_TYPES[0]} or {_TYPES[1]}",
}
"""pydantic's types of errors in our words; none of them repeats what the file says."""


@dataclass(frozen=True, slots=True)
class ManifestMistake:
    """One mistake: the line (from 1), where in the structure, what is wrong, what is right."""

    line: int
    place: str
    message: str


class ManifestInvalidError(Exception):
    """The file cannot be used; nothing of it was applied."""

    def __init__(self, mistakes: Sequence[ManifestMistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line))


@dataclass(frozen=True, slots=True)
class _Known:
    """What fields are held against; `ids` are those read so far."""

    allowed_suffixes: Sequence[str]
    identities: frozenset[str]
    resource_ids: Mapping[str, str]
    ids: set[AccountId] = field(default_factory=set)


def _known(info: ValidationInfo) -> _Known:
    known = info.context
    if not isinstance(known, _Known):
        raise TypeError("accounts are read in the context of what is known")
    return known


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{said}", {"said": message})


def _text(value: object) -> str:
    if value is None:
        raise _wrong("is empty")
    if not isinstance(value, str):
        raise _wrong("is not a text; put it into quotes if it looks like a number or a date")
    return value


def _account_id(value: object, info: ValidationInfo) -> AccountId:
    try:
        account = AccountId.parse(_text(value))
    except IdentifierInvalidError as error:
        raise _wrong(f"{error}; {error.hint}") from None
    known = _known(info)
    if account in known.ids:
        raise _wrong("the account stands in this file twice")
    known.ids.add(account)
    return account


def _tenant(value: object) -> TenantId:
    try:
        return parse_tenant(_text(value))
    except IdentifierInvalidError as error:
        raise _wrong(f"{error}; {error.hint}") from None


def _location(value: object) -> str:
    if _LOCATION.fullmatch(location := region(_text(value))) is None:
        raise _wrong("is not a location: 2 to 40 letters and digits, such as westeurope or West Europe")
    return location


def _key_identifier(value: object, info: ValidationInfo) -> KeyIdentifier:
    known = _known(info)
    try:
        return KeyIdentifier.parse(_text(value), allowed_suffixes=known.allowed_suffixes)
    except IdentifierInvalidError as error:
        raise _wrong(f"{error}; {error.hint}") from None


def _identity(value: object, info: ValidationInfo) -> IdentityName:
    known = _known(info)
    try:
        return find_identity(_text(value), known.identities, known.resource_ids)
    except IdentityReferenceError as error:
        raise _wrong(f"{error}; {error.hint}") from None


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _SystemKey(_Strict):
    type: Literal["SystemKey"]
    identity: Annotated[IdentityName | None, PlainValidator(_identity)] = None


class _CustomerKey(_Strict):
    type: Literal["CustomerKey"]
    keyIdentifier: Annotated[KeyIdentifier, PlainValidator(_key_identifier)]  # noqa: N815 - the ARM contract's name
    identity: Annotated[IdentityName, PlainValidator(_identity)]


class _Account(_Strict):
    id: Annotated[AccountId, PlainValidator(_account_id)]
    tenant: Annotated[TenantId, PlainValidator(_tenant)]
    location: Annotated[str, PlainValidator(_location)]
    encryption: Annotated[_SystemKey | _CustomerKey, Field(discriminator="type")]

    def spec(self) -> AccountSpec:
        key = self.encryption
        if isinstance(key, _CustomerKey):
            customer_key = CustomerKey(key.identity, key.keyIdentifier)
            return AccountSpec(self.id, self.tenant, self.location, customer_key)
        return AccountSpec(self.id, self.tenant, self.location, None, key.identity)


class _Manifest(_Strict):
    accounts: list[Any]


def read_manifest(
    text: str,
    file_format: Format,
    *,
    allowed_suffixes: Sequence[str],
    identities: frozenset[str],
    resource_ids: Mapping[str, str] = MappingProxyType({}),
) -> tuple[AccountSpec, ...]:
    """Read an accounts file.

    Args:
        text: the file.
        file_format: how to read it.
        allowed_suffixes: for key identifiers.
        identities: names that the settings know.
        resource_ids: names of those that have an ARM id, by that id in lower case.

    Raises:
        ManifestInvalidError: with every mistake that can be found in one reading.
    """
    if len(text) > MAX_CHARS:
        raise ManifestInvalidError([ManifestMistake(1, "file", f"more than {MAX_CHARS} characters: split it")])
    document = _read(text.removeprefix("\ufeff"), file_format)
    mistakes = [ManifestMistake(line, _named(place), "stands here twice") for place, line in document.repeated]
    specs: list[AccountSpec] = []
    try:
        entries = _Manifest.model_validate(document.values).accounts
    except ValidationError as error:
        mistakes += _mistakes(error, (), document)
        raise ManifestInvalidError(mistakes) from None
    known = _Known(allowed_suffixes, identities, resource_ids)
    for index, entry in enumerate(entries):
        try:
            specs.append(_Account.model_validate(entry, context=known).spec())
        except ValidationError as error:
            mistakes += _mistakes(error, ("accounts", index), document)
    if mistakes:
        raise ManifestInvalidError(mistakes)
    return tuple(specs)


def _read(text: str, file_format: Format) -> Document:
    try:
        return read_yaml(text) if file_format == "yaml" else read_toml(text)
    except UnreadableError as error:
        raise ManifestInvalidError([ManifestMistake(error.line, "file", _printable(str(error)))]) from None


def _mistakes(error: ValidationError, around: Place, document: Document) -> list[ManifestMistake]:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return [_mistake(detail, around, document) for detail in details]


def _mistake(detail: ErrorDetails, around: Place, document: Document) -> ManifestMistake:
    inside = detail["loc"]
    message = _MESSAGES.get(detail["type"], detail["msg"])
    if inside[:1] == ("encryption",) and inside[1:2] in {(kind,) for kind in _TYPES}:
        kind, inside = inside[1], (inside[0], *inside[2:])
        if detail["type"] == "extra_forbidden" and inside[-1] in _KEY_FIELDS:
            message = f"does not belong to type {kind}; write type: CustomerKey or drop it"
        if detail["type"] == "missing":
            message = f"is missing: type {kind} needs it"
    place = (*around, *inside)
    return ManifestMistake(document.line(place), _named(place), _printable(message))


def _named(place: Place) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_name(part)}" for part in place)
    return text.removeprefix(".") or "file"


def _name(part: str) -> str:
    return part if _PLAIN_NAME.fullmatch(part) else shown(part)


def _printable(message: str) -> str:
    """Bound what a library says of the text, and leave nothing in it that could steer a terminal or a log."""
    clean = printable(message)
    return clean if len(clean) <= _MOST_MESSAGE_CHARS else clean[:_MOST_MESSAGE_CHARS] + "..."
