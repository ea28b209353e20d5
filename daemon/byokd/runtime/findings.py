"""What an examination finds, and how examinations are kept apart: none waits for ever, none spoils the others."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How bad it is. `warn` is not yet a defect, or not ours."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was examined, how it is, and what to do. Nothing in it is secret."""

    what: str
    grade: Grade
    found: str
    hint: str | None = None


def ok(what: str, found: str) -> Finding:
    """Say that something is well."""
    return Finding(what, Grade.OK, found)


def warn(what: str, found: str, *, hint: str) -> Finding:
    """Say that something wants a look."""
    return Finding(what, Grade.WARN, found, hint)


def bad(what: str, found: str, *, hint: str) -> Finding:
    """Say that something is broken."""
    return Finding(what, Grade.BAD, found, hint)


async def examined(what: str, body: Awaitable[Sequence[Finding]], *, seconds: float) -> Sequence[Finding]:
    """Give what an examination finds; that it took too long, or broke, is a finding too."""
    try:
        async with asyncio.timeout(seconds):
            return await body
    except TimeoutError:
        return [
            bad(what, f"no answer within {seconds:g} s", hint="something on the way is silent: see who should answer")
        ]
    except Exception as error:  # noqa: BLE001 - half of what is examined may be broken in ways that nobody thought of
        kind = type(error).__name__
        return [bad(what, f"it could not be examined: {kind}", hint="report this together with `byokd version`")]
