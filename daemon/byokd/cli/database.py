"""`byokd db ...`: the database's schema, offline."""

import sys
from pathlib import Path

import click

from byokd.cli.service import read_or_fail, settings_option
from byokd.cli.voice import ExitCode, fail
from byokd.ports import StoreUnavailableError


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
@settings_option
def upgrade(settings_path: Path) -> None:
    """Bring the schema up to date. Stop the daemon first."""
    settings = read_or_fail(settings_path)
    from byokd.runtime.offline_wiring import upgrade_store  # noqa: PLC0415 - loads the database's adapter; --help starts without

    try:
        found = upgrade_store(settings)
    except StoreUnavailableError as error:
        fail(str(error), hint=error.hint)
    if found.current == found.needed:
        click.echo(f"the schema is up to date: {found.needed}")
    else:
        click.echo(f"upgraded the schema from {found.current or 'nothing'} to {found.needed}")


@db.command()
@settings_option
def status(settings_path: Path) -> None:
    """Tell which schema the database has. Exit 1 when it is not the one that this version needs."""
    settings = read_or_fail(settings_path)
    from byokd.runtime.offline_wiring import store_schema  # noqa: PLC0415 - as above

    try:
        found = store_schema(settings)
    except StoreUnavailableError as error:
        fail(str(error), hint=error.hint)
    click.echo(f"schema {found.current or 'none'}, needed {found.needed}")
    sys.exit(ExitCode.GOOD if found.current == found.needed else ExitCode.FOUND_BAD)
