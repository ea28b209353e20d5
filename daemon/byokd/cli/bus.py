"""`byokd republish`: what a running daemon sends to the bus on command."""

import sys
from math import isnan
from pathlib import Path

import click

from byokd.cli.daemon_calls import call, json_option, socket_option
from byokd.cli.voice import ExitCode, counted, fail, print_json


@click.command()
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(0, 3000),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until the broker has acknowledged everything.",
)
@socket_option
@json_option
def republish(seconds: float, socket_path: Path, as_json: bool) -> None:
    """Send the present state of every account to the bus again, and empty those of deleted accounts.

    For a broker that lost retained states. May be repeated: subscribers tell a repetition by its id, or by incarnation
    and sequence. Exit 1 when events remain to be sent; they are sent later, without another call.
    """
    if isnan(seconds):
        raise click.BadParameter("nan is no number of seconds", param_hint="--wait")
    _, answer = call(socket_path, "POST", "/republish", body={"seconds": seconds})
    if as_json:
        print_json(answer)
        sys.exit(ExitCode.GOOD if answer["sent"] else ExitCode.FOUND_BAD)
    problem = answer["problem"]
    if not answer["begun"]:
        fail(
            f"nothing is sent again: {problem}",
            hint="byokd tells of the bus on /healthz; call this again, and --wait waits for longer",
        )
    if not answer["sent"]:
        fail(
            f"{counted(answer['remaining'], 'event')} still to be sent: {problem}",
            hint="they are sent as soon as the broker takes them; --wait waits for longer",
        )
    click.echo(f"{counted(answer['events'], 'event')} sent again")
