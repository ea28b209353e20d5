"""Reads the settings: a TOML file, overlaid by the environment. Every mistake is named at once, with its place."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from byokd.settings import Settings

ENVIRONMENT_PREFIX = "BYOKD_"
_SEPARATOR = "__"


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
    """Read and check the settings.

    Args:
        path: the TOML file; None for defaults and environment alone.
        environment: the process's environment; only BYOKD_<SECTION>__<NAME> is looked at.

    Raises:
        SettingsInvalidError: with every unknown, malformed or contradictory setting.
    """
    values = {} if path is None else _read_file(path)
    overlaid, mistakes = _overlay(values, environment)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        file = "settings" if path is None else str(path)
        mistakes += [_mistake(detail, file=file, overlaid=overlaid) for detail in error.errors(include_url=False)]
    else:
        if not mistakes:
            return settings
    raise SettingsInvalidError(tuple(mistakes))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        mistake = Mistake(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        mistake = Mistake(str(path), "is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        mistake = Mistake(str(path), f"is not TOML: {error}")
    raise SettingsInvalidError((mistake,))


def _overlay(
    values: dict[str, Any], environment: Mapping[str, str]
) -> tuple[dict[tuple[str, ...], str], list[Mistake]]:
    """Lay the environment over the file's values, in place; give which variable each place came from."""
    overlaid: dict[tuple[str, ...], str] = {}
    mistakes: list[Mistake] = []
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or _SEPARATOR not in variable:
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


def _value(text: str) -> object:
    """Read a variable as TOML where it is a list, table or number, else as plain text."""
    if text[:1] in {"[", "{"} or text in {"true", "false"} or text.replace(".", "", 1).isdigit():
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _mistake(detail: Any, *, file: str, overlaid: Mapping[tuple[str, ...], str]) -> Mistake:  # noqa: ANN401 - pydantic's
    names = tuple(str(part) for part in detail["loc"])
    place = next((variable for spot, variable in overlaid.items() if names[: len(spot)] == spot), file)
    where = f"[{'.'.join(names[:-1])}] {names[-1]}" if len(names) > 1 else names[0] if names else "settings"
    if detail["type"] == "extra_forbidden":
        return Mistake(place, f"{where}: there is no such setting{_known(names)}")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return Mistake(place, f"{where}: {message}{_given(detail)}")


def _given(detail: Any) -> str:  # noqa: ANN401 - pydantic's
    value = detail.get("input")
    shown = isinstance(value, str | int | float) and "@" not in str(value)  # a URL may hold a password
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
