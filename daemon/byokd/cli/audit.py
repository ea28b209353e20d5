"""`byokd audit ...`: the signed record of events, offline or beside a running daemon."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from byokd.cli.daemon_calls import json_option
from byokd.cli.service import read_or_fail, settings_option
from byokd.cli.voice import ExitCode, counted, fail, print_json, say_error
from byokd.domain.chain import Defect, ForgottenError, Heads, KnownHead
from byokd.ports import ServiceKeysUnusableError, StoreUnavailableError
from byokd.records import SignedEvent
from byokd.runtime.archive import HeadsInvalidError, Line, event_line, head_line, heads_line, known_heads
from byokd.runtime.since import SinceInvalidError

LISTED = 1000
"""Defects that are named; beyond, they are only counted."""


@click.group()
def audit() -> None:
    """Verify or export the signed record of events."""


@audit.command()
@settings_option
@click.option(
    "--heads",
    "heads_path",
    type=click.Path(path_type=Path),
    help="Earlier exports, or audit-heads events from an archive of the bus, as lines of JSON.",
)
@json_option
def verify(settings_path: Path, heads_path: Path | None, as_json: bool) -> None:
    """Look whether the record is as it was written. Exit 1 when it is not.

    A database that was set back as a whole to an earlier state is found only with --heads.
    """
    settings = read_or_fail(settings_path)
    from byokd.runtime.offline_wiring import opened_audit  # noqa: PLC0415 - loads the database's adapter; --help starts without

    found: list[Defect] = []
    count = untold = compared = 0
    with _trouble_said(), opened_audit(settings) as opened:

        def take(defect: Defect) -> None:
            nonlocal count
            count += 1
            if count <= LISTED:
                found.append(defect)
                if not as_json:
                    _say(defect)

        for defect in opened.defects():
            take(defect)
        for known in _known(heads_path):
            compared += 1
            try:
                later = opened.missing(known) if isinstance(known, KnownHead) else opened.differing(known)
            except ForgottenError:
                untold += 1
            else:
                if later is not None:
                    take(later)
    if as_json:
        print_json(
            {
                "ok": not count,
                "streams": opened.streams,
                "events": opened.events,
                "heads": {"compared": compared - untold, "forgotten": untold},
                "defectsFound": count,
                "defects": [asdict(defect) for defect in found],
            }
        )
    else:
        _sum_up(opened.streams, opened.events, count, compared - untold, untold)
    sys.exit(ExitCode.FOUND_BAD if count else ExitCode.GOOD)


@audit.command()
@settings_option
@click.option("--since", help="From this event's number or time on, or for this long back, such as 10min.")
@click.option("--heads-only", is_flag=True, help="No events: only the heads of the streams, to verify against later.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON, a stable contract. There is no other form.")
def export(settings_path: Path, since: str | None, heads_only: bool, as_json: bool) -> None:
    """Print the record as lines of JSON: events, then the head of each stream, then their digest."""
    del as_json
    settings = read_or_fail(settings_path)
    from byokd.runtime.offline_wiring import export_history  # noqa: PLC0415 - as above

    prefix = settings.mqtt.topic_prefix

    def on_event(signed: SignedEvent) -> None:
        _print(event_line(signed, prefix=prefix))

    def on_head(known: KnownHead) -> None:
        _print(head_line(known))

    with _trouble_said():
        try:
            heads = export_history(settings, since=since, events=not heads_only, on_event=on_event, on_head=on_head)
        except SinceInvalidError as error:
            fail(str(error), hint=error.hint, code=ExitCode.USAGE)
        except ValueError:
            fail("an event cannot be read: it was changed", hint="byokd audit verify names it")
        _print(heads_line(heads))


@contextmanager
def _trouble_said() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError as error:
        fail(str(error), hint=error.hint)
    except ServiceKeysUnusableError as error:
        fail(str(error), hint=error.hint, code=ExitCode.USAGE)


def _known(path: Path | None) -> Iterator[KnownHead | Heads]:
    if path is None:
        return
    try:
        with path.open(encoding="utf-8") as lines:
            yield from known_heads(lines)
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", code=ExitCode.USAGE)
    except (HeadsInvalidError, UnicodeDecodeError) as error:
        fail(f"{path}: {error}", hint="give what `byokd audit export` printed", code=ExitCode.USAGE)


def _say(defect: Defect) -> None:
    place = " ".join(part for part in (defect.stream, f"#{defect.number}" if defect.number else "") if part)
    click.echo(f"{defect.flaw}: {place}: {defect.message}")


def _sum_up(streams: int, events: int, count: int, compared: int, untold: int) -> None:
    click.echo(f"looked at {counted(events, 'event')} of {counted(streams, 'stream')}", nl=False)
    click.echo(f" and {counted(compared, 'earlier head')}" if compared or untold else "")
    if untold:
        click.echo(f"{counted(untold, 'published digest')} cannot be told any more: events since were forgotten")
    if count > LISTED:
        click.echo(f"and {count - LISTED} more defects")
    if count:
        say_error(
            f"the record is not as it was written: {counted(count, 'defect')}",
            hint="keep a copy of the database and its files before anything else; docs/operations.md says what each "
            "defect means",
        )
    else:
        click.echo("the record is as it was written")


def _print(line: Line) -> None:
    click.echo(json.dumps(line, separators=(",", ":")))
