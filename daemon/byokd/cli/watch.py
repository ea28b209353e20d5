"""`byokd watch`: what happens, as it is committed."""

import json
from pathlib import Path
from typing import Any

import click

from byokd.cli.daemon_calls import json_option, lines_of, socket_option
from byokd.cli.voice import ExitCode, fail
from byokd.domain.vocabulary import EventType
from byokd.runtime.clock import SystemClock
from byokd.runtime.since import SinceInvalidError, parse_since

_COMMON = "byokd."
"""What all types begin with, and what people leave out."""

_TYPES = [str(one) for one in EventType]


@click.command()
@click.option(
    "--since",
    help="First what was committed after this event number, from this time on, or this long back, such as 10min.",
)
@click.option("--account", help="Events of this account only, by ARM id or name; of a deleted one by ARM id.")
@click.option(
    "--type",
    "event_type",
    type=click.Choice([*_TYPES, *(name.removeprefix(_COMMON) for name in _TYPES)]),
    metavar="TYPE",
    help="Events of this type, with or without byokd. before it.",
)
@click.option("--follow/--no-follow", default=True, help="Go on with what is committed from now on.", show_default=True)
@socket_option
@json_option
def watch(
    since: str | None, account: str | None, event_type: str | None, follow: bool, socket_path: Path, as_json: bool
) -> None:
    """Print events as a running daemon commits them; with --no-follow, those that are kept."""
    if event_type is not None:
        event_type = _COMMON + event_type.removeprefix(_COMMON)
    _check_since(since)
    asked = {"since": since, "account": account, "type": event_type, "live": "true" if follow else "false"}
    parameters = {name: value for name, value in asked.items() if value is not None}
    last: int | None = None
    try:
        for event in lines_of(socket_path, "GET", "/events", parameters=parameters, silence_seconds=None):
            last = _show(event, as_json=as_json)
    except KeyboardInterrupt:
        return
    if follow:
        fail("the daemon ended the stream: it stops", hint=f"watch again with --since {last}" if last else None)


def _check_since(since: str | None) -> None:
    """End as for any other wrong option; the daemon reads it by its own clock."""
    try:
        if since is not None:
            parse_since(since, now=SystemClock().now())
    except SinceInvalidError as error:
        fail(str(error), hint=error.hint, code=ExitCode.USAGE)


def _show(event: dict[str, Any], *, as_json: bool) -> int:
    if "error" in event:
        fail(event["error"], hint=event["hint"])
    click.echo(json.dumps(event, ensure_ascii=False, separators=(",", ":")) if as_json else _line(event))
    return int(event["number"])


def _line(event: dict[str, Any]) -> str:
    """Tell an event in a line: when, of what, what, and what became of it."""
    data = event["data"]
    kind, _, about = event["subject"].partition("/")
    if kind == "accounts":
        about = about.rpartition("/")[2]
    what = [event["time"], f"#{event['number']}", about or kind, event["type"].removeprefix(_COMMON)]
    if "state" in data:
        what.append(data["state"])
    if data.get("reason"):
        what.append(data["reason"])
    elif "keyIdentifier" in data and "state" not in data:
        what.append(data["keyIdentifier"])
    return "  ".join(str(part) for part in what)
