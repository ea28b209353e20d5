"""`byokd accounts protect|reveal|values|unprotect`: what account keys protect. Contents are never arguments."""

import base64
import sys
from pathlib import Path
from typing import BinaryIO

import click

from byokd.cli.daemon_calls import call, json_option, socket_option
from byokd.cli.voice import ExitCode, fail, print_json, print_table
from byokd.domain.values import ValueNameInvalidError, parse_value_name
from byokd.domain.vocabulary import ValueKind

MOST_BYTES = 1_048_576
"""The most that values.most_bytes can be; what is longer is not read to its end."""

_kind_option = click.option(
    "--kind", type=click.Choice([str(kind) for kind in ValueKind]), required=True, help="What the value is."
)


def _checked_name(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return parse_value_name(value)
    except ValueNameInvalidError as error:
        fail(str(error), hint=error.hint, code=ExitCode.USAGE)


_name_option = click.option("--name", required=True, callback=_checked_name, help="The value's name.")


@click.command()
@click.argument("account")
@_kind_option
@_name_option
@click.option(
    "--file", "path", type=click.Path(path_type=Path), help="File with the value; without it, standard input."
)
@socket_option
@json_option
def protect(account: str, kind: str, name: str, path: Path | None, socket_path: Path, as_json: bool) -> None:
    """Protect a value with an account's key; every byte counts, also a last line break.

    A value of that kind and name is replaced.
    """
    try:
        content = _read(sys.stdin.buffer) if path is None else _read_file(path)
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", code=ExitCode.USAGE)
    body = {"kind": kind, "name": name, "content": base64.b64encode(content).decode()}
    _, written = call(socket_path, "POST", "/account/values", ref=account, body=body)
    print_json(written) if as_json else click.echo(f"protected  {kind} {name} (revision {written['revision']})")


@click.command()
@click.argument("account")
@_kind_option
@_name_option
@socket_option
@json_option
def reveal(account: str, kind: str, name: str, socket_path: Path, as_json: bool) -> None:
    """Write a protected value to standard output, as the bytes that it is; with --json, in base64.

    Only for the users listed in service.reveal_uids, and only while the customer's key allows it.
    """
    _, answer = call(socket_path, "POST", "/account/values/reveal", ref=account, body={"kind": kind, "name": name})
    if as_json:
        print_json(answer)
        return
    content = base64.b64decode(answer["content"])
    if sys.stdout.isatty() and not _is_printable(content):
        fail(
            "the value is not text, and a terminal might obey it", hint="send it to a file or a program, or add --json"
        )
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


@click.command()
@click.argument("account")
@socket_option
@json_option
def values(account: str, socket_path: Path, as_json: bool) -> None:
    """List the kinds and names of an account's protected values."""
    _, found = call(socket_path, "GET", "/account/values", ref=account)
    if as_json:
        print_json(found)
        return
    columns = {"kind": "kind", "name": "name", "revision": "revision", "updated": "updatedAt"}
    print_table([{column: str(value[key]) for column, key in columns.items()} for value in found])


@click.command()
@click.argument("account")
@_kind_option
@_name_option
@socket_option
@json_option
def unprotect(account: str, kind: str, name: str, socket_path: Path, as_json: bool) -> None:
    """Erase a protected value, for good."""
    body = {"kind": kind, "name": name}
    _, answer = call(socket_path, "POST", "/account/values/remove", ref=account, body=body)
    print_json(answer) if as_json else click.echo(f"erased     {kind} {name}")


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _read(file)


def _read(stream: BinaryIO) -> bytes:
    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        fail(f"the value has more than {MOST_BYTES} bytes", hint="protect a key, and encrypt the rest with it")
    return content


def _is_printable(content: bytes) -> bool:
    try:
        return all(character.isprintable() or character in "\t\n" for character in content.decode())
    except UnicodeDecodeError:
        return False
