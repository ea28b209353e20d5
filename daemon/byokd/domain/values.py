"""Protected values: what the account key encrypts. Here they have a name, a kind and a revision, but no content."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from byokd.domain.identifiers import shown
from byokd.domain.vocabulary import ValueKind

ValueName = NewType("ValueName", str)

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}", re.ASCII)


class ValueNameInvalidError(ValueError):
    """A name that no protected value can have. The message says what is wrong, the hint what is right."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ValueRef:
    """Which of an account's values."""

    kind: ValueKind
    name: ValueName

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """What may be told of a value. `revision` grows by one with every write."""

    ref: ValueRef
    revision: int
    created_at: datetime
    updated_at: datetime


def parse_value_name(text: str) -> ValueName:
    """Read a value's name. Upper and lower case differ, as in the identifiers of content keys.

    Raises:
        ValueNameInvalidError: it has other characters than letters, digits, `.`, `_` and `-`, or too many.
    """
    if _NAME.fullmatch(text) is None:
        raise ValueNameInvalidError(
            f"not a name of a protected value: {shown(text)}",
            hint="1 to 128 letters, digits, dots, underscores and hyphens, a letter or digit first",
        )
    return ValueName(text)
