"""The `byokd` command."""

from importlib.metadata import version

import click

from byokd.cli.accounts import accounts, check
from byokd.cli.database import db
from byokd.cli.demo import demo
from byokd.cli.emulator import emulator
from byokd.cli.service import check_config, run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("byokd"), "--version", prog_name="byokd", message="%(prog)s %(version)s")
def main() -> None:
    """Watch customers' keys, keep account keys wrapped by them, publish every change.

    Exit codes: 0 good, 1 found bad, 2 usage or settings.
    """


@main.command(name="version")
def show_version() -> None:
    """Print the version."""
    click.echo(f"byokd {version('byokd')}")


for _command in (run, check_config, accounts, check, db, demo, emulator):
    main.add_command(_command)
