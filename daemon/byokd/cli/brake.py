"""`byokd brake ...`: what looks like our own fault and is held back."""

import sys
from pathlib import Path
from typing import Any

import click

from byokd.cli.daemon_calls import call, json_option, socket_option
from byokd.cli.voice import ExitCode, counted, fail, print_json, print_table


@click.group()
def brake() -> None:
    """Look at the brake, and judge what it holds.

    While many customers at once seem to deny for a reason that can be our own fault, their denials are held: the states
    of their accounts stay as they are, but each use asks the vault, and is refused as long as the vault refuses.
    """


@brake.command()
@socket_option
@json_option
def status(socket_path: Path, as_json: bool) -> None:
    """Show whether the brake is engaged, why, and what it holds. Exit 1 while it is engaged."""
    _, found = call(socket_path, "GET", "/brake")
    print_json(found) if as_json else _tell(found)
    sys.exit(ExitCode.FOUND_BAD if found["engaged"] else ExitCode.GOOD)


@brake.command()
@click.option("--reason", "message", required=True, metavar="TEXT", help="Why, for the record and for colleagues.")
@socket_option
@json_option
def engage(message: str, socket_path: Path, as_json: bool) -> None:
    """Hold by hand, before work on our own credential or network.

    Denials that our own fault can cause are held from now on, however few, until `release` or `confirm`; each of them
    for `brake.max_hold` at most.
    """
    if not 1 <= len(message.strip()) <= 200:  # noqa: PLR2004 - as the daemon has it
        fail("the reason has to have 1 to 200 characters", hint="say in a few words why", code=ExitCode.USAGE)
    _, found = call(socket_path, "POST", "/brake/engage", body={"message": message.strip()})
    if as_json:
        print_json(found)
        return
    click.echo(found["summary"])
    if found["replaced"] is not None:
        click.echo(f"it was engaged by an operator already; this reason took the place of: {found['replaced']}")


@brake.command()
@socket_option
@json_option
def release(socket_path: Path, as_json: bool) -> None:
    """Discard what is held, and let go: the fault was ours and is mended.

    Nobody becomes Inaccessible at once. A vault that still denies is suspected anew: that counts once it is confirmed,
    unless the denials are so many that they engage the brake again.
    """
    _, found = call(socket_path, "POST", "/brake/release", body={})
    if as_json:
        print_json(found)
    elif found["wasEngaged"]:
        click.echo(f"released; {counted(found['settled'], 'held denial')} discarded")
        if found["settled"]:
            click.echo(
                "their vaults are looked at now; one that still denies is suspected anew, which counts once confirmed"
            )
    else:
        click.echo("the brake was not engaged")


@brake.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@socket_option
@json_option
def confirm(yes: bool, socket_path: Path, as_json: bool) -> None:
    """Apply what is held, and let go: the customers really revoked.

    Their accounts become Inaccessible now, and that is published. Exit 1 when it is not wanted after all.
    """
    _, before = call(socket_path, "GET", "/brake")
    if before["engaged"] and not yes:
        _ask(before)
    _, found = call(socket_path, "POST", "/brake/confirm", body={})
    if as_json:
        print_json(found)
    elif found["wasEngaged"]:
        click.echo(f"confirmed; {counted(found['settled'], 'held denial')} applied")
    else:
        click.echo("the brake was not engaged")


def _ask(found: dict[str, Any]) -> None:
    """Go on only with an answer of yes."""
    if not sys.stdin.isatty():
        fail("nobody is there to ask", hint="give --yes to apply what is held", code=ExitCode.USAGE)
    closing = counted(found["accounts"], "account")
    question = f"{counted(found['held'], 'denial')} held; make {closing} of these keys Inaccessible now?"
    if not click.confirm(question, err=True):
        fail("nothing was applied; the brake goes on holding")


def _tell(found: dict[str, Any]) -> None:
    click.echo(found["summary"])
    if found["message"]:
        click.echo(f"reason: {found['message']}")
    if found["why"]:
        click.echo(f"found:  {found['why']}")
    print_table(
        [
            {
                "key": denial["keyIdentifier"],
                "reason": denial["reason"],
                "since": denial["since"],
                "accounts": str(denial["accounts"]),
                "tenant": denial["tenant"],
            }
            for denial in found["denials"]
        ]
    )
    if (more := found["held"] - len(found["denials"])) > 0:
        click.echo(f"and {more} more")
