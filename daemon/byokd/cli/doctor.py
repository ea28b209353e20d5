"""`byokd doctor`: is this set-up as it has to be, before and while the daemon runs?"""

import asyncio
import json
import logging
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import click

from byokd.cli.daemon_calls import ask, json_option
from byokd.cli.service import settings_option
from byokd.cli.voice import ExitCode
from byokd.runtime.configuration import SettingsInvalidError, read_settings
from byokd.runtime.findings import Finding, Grade, bad, ok
from byokd.settings import Settings

SETTINGS = "settings"
_HINT = "docs/settings.md has every setting with its form and default; nothing else was examined"


@click.command()
@settings_option
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    envvar="BYOKD_SOCKET",
    show_envvar=True,
    help="The daemon's Unix socket, if it is not the one of the settings.",
)
@json_option
def doctor(settings_path: Path, socket_path: Path | None, as_json: bool) -> None:
    """Examine the set-up: settings, keys, database, broker, identities, vaults, clock.

    With or without a running daemon. Changes nothing; without a daemon, trial messages are sent to the broker. Exit 1
    when something is bad, 2 when the settings cannot be used.
    """
    try:
        settings = read_settings(settings_path, os.environ)
    except SettingsInvalidError as error:
        _tell([bad(SETTINGS, f"{one.place}: {one.message}", hint=_HINT) for one in error.mistakes], as_json=as_json)
        sys.exit(ExitCode.USAGE)
    findings = [ok(SETTINGS, f"{settings_path}: good"), *asyncio.run(_findings(settings, socket_path))]
    _tell(findings, as_json=as_json)
    sys.exit(ExitCode.FOUND_BAD if any(one.grade is Grade.BAD for one in findings) else ExitCode.GOOD)


async def _findings(settings: Settings, socket_path: Path | None) -> Sequence[Finding]:
    from byokd.runtime.doctor import diagnose  # noqa: PLC0415 - loads all adapters; --help starts without
    from byokd.runtime.wiring import wire_instruments  # noqa: PLC0415 - as above

    # Libraries write to standard error what nobody handles, and answers of token endpoints with it.
    logging.getLogger().addHandler(logging.NullHandler())
    socket = socket_path or settings.service.socket
    report = await ask(socket, "/status")
    name = f"byokd-doctor-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        instruments = await wire_instruments(settings, stack)
        return await diagnose(settings, instruments, report, socket=socket, name=name)


def _tell(findings: Sequence[Finding], *, as_json: bool) -> None:
    numbers = {grade: sum(one.grade is grade for one in findings) for grade in Grade}
    if as_json:
        for one in findings:
            click.echo(json.dumps(asdict(one)))
        click.echo(json.dumps({"ok": not numbers[Grade.BAD], "findings": numbers}))
        return
    for one, following in zip(findings, [*findings[1:], None], strict=True):
        click.echo(f"{one.grade:<5} {one.what:<16} {one.found}")
        # What several in a row have in common is said once, below the last.
        if one.hint and (following is None or one.hint != following.hint):
            click.echo(f"      {'':<16} hint: {one.hint}")
    click.echo(", ".join(f"{number} {grade}" for grade, number in numbers.items()))
