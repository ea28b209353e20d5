"""How the command line speaks: what happened, why, and a hint with the next step."""

import json
from enum import IntEnum
from typing import NoReturn

import click


class ExitCode(IntEnum):
    """The contract with scripts."""

    GOOD = 0
    FOUND_BAD = 1
    USAGE = 2


def fail(message: str, *, hint: str | None = None, code: ExitCode = ExitCode.FOUND_BAD) -> NoReturn:
    """Say what went wrong on standard error and end."""
    say_error(message, hint=hint)
    raise SystemExit(int(code))


def say_error(message: str, *, hint: str | None = None) -> None:
    """Say what went wrong on standard error."""
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def say_warning(message: str, *, hint: str | None = None) -> None:
    """Say on standard error what wants a look."""
    click.echo(f"warning: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def counted(number: int, noun: str) -> str:
    """Give a number of things in words: "1 mistake", "2 mistakes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_json(value: object) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2))


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows of the same columns, aligned, under a heading."""
    if not rows:
        return
    columns = list(rows[0])
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    for row in [{column: column.upper() for column in columns}, *rows]:
        click.echo("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())
