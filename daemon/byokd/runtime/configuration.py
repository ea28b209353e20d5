"""Reads the settings: a TOML file, overlaid by the environment. Every mistake is named at once, with its place.

But not those that only several settings together make: pydantic looks at them when each of these is right, and what
would stand in for a wrong one could make mistakes of its own.
"""

import ssl
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from byokd.runtime.delivery_secrets import flaw_of_secret, flaw_of_secrets
from byokd.settings import Settings, connecting

ENVIRONMENT_PREFIX = "BYOKD_"
_SEPARATOR = "__"

_OTHER_VARIABLES: Final = frozenset({"BYOKD_SETTINGS", "BYOKD_SOCKET", "BYOKD_EMULATOR"})
"""Variables of the command line that are no settings."""

_TESTS_PREFIX: Final = "BYOKD_TESTS_"

_SECRETIVE: Final = frozenset("@?")
"""What a URL with a password has in it, and nothing else that is worth showing."""

_MESSAGES: Final[Mapping[str, str]] = {
    "tuple_type": 'not a list: write a list, such as ["one", "two"]',
    "too_short": 'an empty list: write a list with at least one entry, such as ["one"]',
    "model_type": "is a section, not a value: its settings stand below it, each with a name",
    "dict_type": "is a section, not a value: its entries stand below it, each with a name",
}
"""pydantic's types of errors in our words, where its own are about Python."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong setting: where it stands, what is wrong, what is right."""

    place: str
    message: str


class SettingsInvalidError(Exception):
    """The settings cannot be used; nothing of them was. `mistakes` names every one."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("; ".join(f"{mistake.place}: {mistake.message}" for mistake in mistakes))
        self.mistakes = mistakes


def read_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read and check the settings, and the files of certificates and passwords that they name.

    Args:
        path: the TOML file; None for defaults and environment alone.
        environment: the process's environment; only names that start with BYOKD_ are looked at.

    Raises:
        SettingsInvalidError: with every unknown, malformed or contradictory setting and unusable file.
    """
    values = {} if path is None else _read_file(path)
    overlaid, mistakes = _overlay(values, environment)
    file = "settings" if path is None else str(path)
    unusable = _unusable_files(values, file=file, overlaid=overlaid)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        mistakes += [
            _mistake(detail, file=file, overlaid=overlaid) for detail in details if not _follows(detail, details)
        ]
    else:
        if not mistakes and not unusable and (alike := flaw_of_secrets(settings.event_grid)) is not None:
            mistakes.append(Mistake(file, f"[event_grid.sources] {alike}"))
        if not mistakes and not unusable:
            return settings
    raise SettingsInvalidError((*mistakes, *unusable))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        mistake = Mistake(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        mistake = Mistake(str(path), "is not UTF-8 text")
    except ValueError as error:  # besides TOML's own, Python's for a number of thousands of digits
        mistake = Mistake(str(path), f"is not TOML: {error}")
    raise SettingsInvalidError((mistake,))


def _overlay(
    values: dict[str, Any], environment: Mapping[str, str]
) -> tuple[dict[tuple[str, ...], str], list[Mistake]]:
    """Lay the environment over the file's values, in place; give which variable each place came from."""
    overlaid: dict[tuple[str, ...], str] = {}
    mistakes: list[Mistake] = []
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable.startswith(_TESTS_PREFIX):
            continue
        if variable in _OTHER_VARIABLES:
            continue
        if _SEPARATOR not in variable:
            mistakes.append(Mistake(variable, _right_variable(variable)))
            continue
        place = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split(_SEPARATOR))
        group: Any = values
        for name in place[:-1]:
            group = group.setdefault(name, {})
            if not isinstance(group, dict):
                mistakes.append(Mistake(variable, f"{name} is a value, not a section"))
                break
        else:
            group[place[-1]] = _value(text)
            overlaid[place] = variable
    return overlaid, mistakes


def _right_variable(variable: str) -> str:
    """Say what is right instead of a variable without a separator."""
    form = f"write {ENVIRONMENT_PREFIX}<SECTION>{_SEPARATOR}<NAME> with two underscores between"
    name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
    if name in Settings.model_fields:
        return f"names only a section: {form}, such as {_example(name)}"
    for section in sorted(Settings.model_fields, key=len, reverse=True):
        if name.startswith(f"{section}_"):
            meant = f"{section}{_SEPARATOR}{name.removeprefix(f'{section}_')}".upper()
            return f"names no setting: {form}, as in {ENVIRONMENT_PREFIX}{meant}"
    return f"names no setting: {form}, such as {_example('checks')}"


def _example(section: str) -> str:
    model: Any = Settings.model_fields[section].annotation
    names = getattr(model, "model_fields", None)
    parts = (section, next(iter(names))) if names else (section, "platform", "client_id")
    return ENVIRONMENT_PREFIX + _SEPARATOR.join(parts).upper()


def _value(text: str) -> object:
    """Read a variable as TOML where it is a list, table or number, else as plain text."""
    if text[:1] in {"[", "{"} or text in {"true", "false"} or text.replace(".", "", 1).isdigit():
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except ValueError:
            return text
    return text


def _unusable_files(values: Mapping[str, Any], *, file: str, overlaid: Mapping[tuple[str, ...], str]) -> list[Mistake]:
    """Look into the files that are named; those that would be mistaken at the first use are mistakes now."""
    mistakes: list[Mistake] = []
    for spot, flaw in (*_FILES.items(), *_files_of_identities(values), *_files_of_sources(values)):
        group: Any = values
        for section in spot[:-1]:
            group = group.get(section) if isinstance(group, Mapping) else None
        path = group.get(spot[-1]) if isinstance(group, Mapping) else None
        if isinstance(path, str) and Path(path).is_absolute() and (message := flaw(Path(path))) is not None:
            place = overlaid.get(spot, file)
            mistakes.append(Mistake(place, f"[{'.'.join(spot[:-1])}] {spot[-1]}: {message} (found {path[:60]!r})"))
    return mistakes


def _files_of_identities(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Callable[[Path], str | None]]]:
    """Name the files that identities have, each with who looks into it."""
    identities = values.get("identities")
    if not isinstance(identities, Mapping):
        return
    from byokd.runtime.identity_files import (  # noqa: PLC0415 - cryptography is for those who have identities
        flaw_of_certificate,
        flaw_of_token_file,
    )

    for name in identities:
        yield ("identities", name, "certificate_file"), flaw_of_certificate
        yield ("identities", name, "token_file"), flaw_of_token_file


def _files_of_sources(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Callable[[Path], str | None]]]:
    """Name the files with secrets of those who deliver."""
    group = values.get("event_grid")
    sources = group.get("sources") if isinstance(group, Mapping) else None
    for name in sources if isinstance(sources, Mapping) else ():
        yield ("event_grid", "sources", name, "secret_file"), flaw_of_secret


def _flaw_of_authorities(path: Path) -> str | None:
    right = "write the path of a readable PEM file with certificates (-----BEGIN CERTIFICATE-----)"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return f"not a file; {right}"
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return f"holds no PEM certificate, or a broken one; {right}"
    except (OSError, ValueError) as error:
        return f"cannot be read: {_why(error)}; {right}"
    return None if context.cert_store_stats()["x509"] else f"holds no PEM certificate; {right}"


def _flaw_of_chain(path: Path) -> str | None:
    right = "write the path of a readable PEM file with a certificate and its private key, without a passphrase"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path, password=lambda: "")
    except ssl.SSLError:
        return f"holds no certificate with its key, or they do not fit; {right}"
    except (OSError, ValueError) as error:
        return f"cannot be read: {_why(error)}; {right}"
    return None


def _flaw_of_password(path: Path) -> str | None:
    right = "write the path of a readable file that holds the password as UTF-8 text"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return f"not a file; {right}"
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return f"is not UTF-8 text; {right}"
    except (OSError, ValueError) as error:
        return f"cannot be read: {_why(error)}; {right}"
    return None


def _flaw_of_bus_password(path: Path) -> str | None:
    if (flaw := _flaw_of_password(path)) is not None:
        return flaw
    try:
        connecting.password(path.read_bytes())
    except OSError as error:
        return f"cannot be read: {_why(error)}"
    except connecting.NoPasswordError as error:
        return f"{error}; write the path of a file that holds the password alone"
    return None


_FILES: Final[Mapping[tuple[str, ...], Callable[[Path], str | None]]] = {
    ("network", "ca_file"): _flaw_of_authorities,
    ("store", "ca_file"): _flaw_of_authorities,
    ("store", "password_file"): _flaw_of_password,
    ("mqtt", "password_file"): _flaw_of_bus_password,
    ("mqtt", "ca_file"): _flaw_of_authorities,
    ("mqtt", "certificate_file"): _flaw_of_chain,
}


def _why(error: OSError | ValueError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not a path"


def _follows(detail: Any, details: Sequence[Any]) -> bool:  # noqa: ANN401 - pydantic's
    """Whether a list is called too short only because its entries are wrong."""
    inside = detail["loc"]
    return detail["type"] == "too_short" and any(
        other["loc"][: len(inside)] == inside and other is not detail for other in details
    )


def _mistake(detail: Any, *, file: str, overlaid: Mapping[tuple[str, ...], str]) -> Mistake:  # noqa: ANN401 - pydantic's
    names = tuple(str(part) for part in detail["loc"])
    if names[-1:] == ("[key]",):
        names = names[:-1]
        place = next((variable for spot, variable in overlaid.items() if spot[: len(names)] == names), file)
        return Mistake(place, f"[{'.'.join(names)}]: {_words(detail)}{_given(detail)}")
    place = next((variable for spot, variable in overlaid.items() if names[: len(spot)] == spot), file)
    where = f"[{'.'.join(names[:-1])}] {names[-1]}" if len(names) > 1 else names[0] if names else "settings"
    if names[:1] == ("identities",) and len(names) <= 2 and detail["type"] == "value_error":  # noqa: PLR2004
        # About one identity as a whole, or about how they fit each other, which names them itself.
        return Mistake(place, f"[{'.'.join(names)}]: {_words(detail)}" if len(names) > 1 else _words(detail))
    if detail["type"] == "extra_forbidden":
        return Mistake(place, f"{where}: there is no such setting{_known(names)}")
    return Mistake(place, f"{where}: {_words(detail)}{_given(detail)}")


def _words(detail: Any) -> str:  # noqa: ANN401 - pydantic's
    return _MESSAGES.get(detail["type"]) or str(detail["msg"]).removeprefix("Value error, ")


def _given(detail: Any) -> str:  # noqa: ANN401 - pydantic's
    value = detail.get("input")
    shown = isinstance(value, str | int | float) and not _SECRETIVE & set(str(value))  # a URL may hold a password
    return f" (found {str(value)[:60]!r})" if shown else ""


def _known(names: tuple[str, ...]) -> str:
    """Name the settings that do exist beside an unknown one."""
    model: Any = Settings
    for name in names[:-1]:
        field = model.model_fields.get(name)
        model = None if field is None else field.annotation
        if not hasattr(model, "model_fields"):
            return ""
    return f"; there are {', '.join(sorted(model.model_fields))}"
