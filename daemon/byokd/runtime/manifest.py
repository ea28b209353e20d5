"""Reads an accounts file (YAML or TOML). Either all of it is right, or every mistake is named with its line."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import AccountId, IdentifierInvalidError, IdentityName, KeyIdentifier, parse_tenant

MAX_CHARS = 16 * 1024 * 1024
"""Room for some 50,000 accounts; more belong into several files."""

Format = Literal["yaml", "toml"]
_Place = tuple[str | int, ...]
_TOML_HEADER = re.compile(r"\s*(?P<open>\[{1,2})\s*(?P<name>[^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?$")
_TOML_KEY = re.compile(r"\s*(?P<name>[A-Za-z0-9_.\"'-]+)\s*=")


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


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Encryption(_Strict):
    type: Literal["SystemKey", "CustomerKey"]
    keyIdentifier: str | None = None  # noqa: N815 - the ARM contract's name
    identity: str | None = None


class _Account(_Strict):
    id: str
    tenant: str
    location: Annotated[str, Field(pattern=r"^[a-z0-9]{2,40}$")]
    encryption: _Encryption = _Encryption(type="SystemKey")


class _Manifest(_Strict):
    accounts: list[_Account]


def read_manifest(
    text: str, file_format: Format, *, allowed_suffixes: Sequence[str], identities: frozenset[str]
) -> tuple[AccountSpec, ...]:
    """Read an accounts file.

    Args:
        text: the file.
        file_format: how to read it.
        allowed_suffixes: for key identifiers.
        identities: names that the settings know.

    Raises:
        ManifestInvalidError: with every mistake that can be found in one reading.
    """
    if len(text) > MAX_CHARS:
        raise ManifestInvalidError([ManifestMistake(1, "file", f"more than {MAX_CHARS} characters: split it")])
    values, lines, mistakes = _read_yaml(text) if file_format == "yaml" else _read_toml(text)
    manifest: _Manifest | None = None
    try:
        manifest = _Manifest.model_validate(values)
    except ValidationError as error:
        mistakes += [_mistake(detail["loc"], detail, lines) for detail in error.errors(include_url=False)]
    specs: dict[AccountId, AccountSpec] = {}
    for index, account in enumerate(() if manifest is None else manifest.accounts):
        place = ("accounts", index)
        for problem in _Reader(allowed_suffixes, identities).problems(account, specs):
            mistakes.append(
                ManifestMistake(
                    _line((*place, *problem.place), lines), _named((*place, *problem.place)), problem.message
                )
            )
    if mistakes:
        raise ManifestInvalidError(mistakes)
    return tuple(specs.values())


@dataclass(frozen=True, slots=True)
class _Problem:
    place: _Place
    message: str


@dataclass(frozen=True, slots=True)
class _Reader:
    allowed_suffixes: Sequence[str]
    identities: frozenset[str]

    def problems(self, account: _Account, specs: dict[AccountId, AccountSpec]) -> Iterator[_Problem]:
        """Turn one entry into a spec among `specs`, or say what is wrong with it."""
        found: list[_Problem] = []
        account_id = tenant = None
        try:
            account_id = AccountId.parse(account.id)
        except IdentifierInvalidError as error:
            found.append(_Problem(("id",), f"{error}; {error.hint}"))
        try:
            tenant = parse_tenant(account.tenant)
        except IdentifierInvalidError as error:
            found.append(_Problem(("tenant",), f"{error}; {error.hint}"))
        if account_id in specs:
            found.append(_Problem(("id",), "the account stands in this file twice"))
        customer_key = self._customer_key(account.encryption, found)
        if not found and account_id is not None and tenant is not None:
            specs[account_id] = AccountSpec(account_id, tenant, account.location, customer_key)
        yield from found

    def _customer_key(self, encryption: _Encryption, found: list[_Problem]) -> CustomerKey | None:
        given = {"keyIdentifier": encryption.keyIdentifier, "identity": encryption.identity}
        if encryption.type == "SystemKey":
            found += [
                _Problem(("encryption", name), "does not belong to type SystemKey; write type: CustomerKey or drop it")
                for name, value in given.items()
                if value is not None
            ]
            return None
        missing = [name for name, value in given.items() if value is None]
        found += [_Problem(("encryption",), f"type CustomerKey needs {name}") for name in missing]
        if encryption.identity is not None and encryption.identity not in self.identities:
            known = ", ".join(sorted(self.identities)) or "none"
            message = f"there is no identity {encryption.identity!r} in the settings; there are: {known}"
            found.append(_Problem(("encryption", "identity"), message))
        if encryption.keyIdentifier is None or encryption.identity is None:
            return None
        try:
            key = KeyIdentifier.parse(encryption.keyIdentifier, allowed_suffixes=self.allowed_suffixes)
        except IdentifierInvalidError as error:
            found.append(_Problem(("encryption", "keyIdentifier"), f"{error}; {error.hint}"))
            return None
        return CustomerKey(IdentityName(encryption.identity), key)


def _mistake(place: _Place, detail: Any, lines: Mapping[_Place, int]) -> ManifestMistake:  # noqa: ANN401 - pydantic's
    message = str(detail["msg"])
    if detail["type"] == "extra_forbidden":
        message = "there is no such field"
    if detail["type"] == "missing":
        message = "is missing"
    return ManifestMistake(_line(place, lines), _named(place), message)


def _line(place: _Place, lines: Mapping[_Place, int]) -> int:
    """Give the line of a place, or of the nearest thing around it."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _named(place: _Place) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "file"


def _read_yaml(text: str) -> tuple[object, dict[_Place, int], list[ManifestMistake]]:
    lines: dict[_Place, int] = {}
    mistakes: list[ManifestMistake] = []
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _walk(node, (), lines, mistakes)
        return yaml.safe_load(text), lines, mistakes
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"is not YAML: {getattr(error, 'problem', None) or 'unreadable'}"
        mistake = ManifestMistake(1 if mark is None else mark.line + 1, "file", message)
        raise ManifestInvalidError([mistake]) from None


def _walk(node: yaml.Node, place: _Place, lines: dict[_Place, int], mistakes: list[ManifestMistake]) -> None:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*place, index), lines, mistakes)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            spot = (*place, str(key.value))
            line = key.start_mark.line + 1
            if spot in lines:
                mistakes.append(ManifestMistake(line, _named(spot), "stands here twice"))
            _walk(value, spot, lines, mistakes)
            lines[spot] = line


def _read_toml(text: str) -> tuple[object, dict[_Place, int], list[ManifestMistake]]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        mistake = ManifestMistake(int(found[1]) if found else 1, "file", f"is not TOML: {error}")
        raise ManifestInvalidError([mistake]) from None
    return values, _toml_lines(text), []


def _toml_lines(text: str) -> dict[_Place, int]:
    """Find the lines of tables and keys. The standard reader does not tell them, so headers and keys are looked for."""
    lines: dict[_Place, int] = {(): 1}
    table: _Place = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if (header := _TOML_HEADER.fullmatch(line)) is not None:
            first, *rest = [part.strip().strip("\"'") for part in header["name"].split(".")]
            if header["open"] == "[[" and not rest:
                counts[first] = counts.get(first, -1) + 1
            table = (first, counts[first], *rest) if first in counts else (first, *rest)
            lines.setdefault(table, number)
        elif (key := _TOML_KEY.match(line)) is not None:
            parts = [part.strip("\"'") for part in key["name"].split(".")]
            for depth in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:depth]), number)
    return lines
