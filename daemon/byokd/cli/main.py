"""The `byokd` command."""

from importlib import import_module

import click

_PLACES = {
    "accounts": "byokd.cli.accounts:accounts",
    "audit": "byokd.cli.audit:audit",
    "brake": "byokd.cli.brake:brake",
    "check": "byokd.cli.accounts:check",
    "check-config": "byokd.cli.service:check_config",
    "db": "byokd.cli.database:db",
    "demo": "byokd.cli.demo:demo",
    "doctor": "byokd.cli.doctor:doctor",
    "emulator": "byokd.cli.emulator:emulator",
    "republish": "byokd.cli.bus:republish",
    "explain": "byokd.cli.explain:explain",
    "keys": "byokd.cli.keys:keys",
    "reload": "byokd.cli.reload:reload",
    "run": "byokd.cli.service:run",
    "watch": "byokd.cli.watch:watch",
}
"""Where each command is. Loaded on first use: a verb must not wait for what only others need."""


class _Commands(click.Group):
    """A group that loads a command when it is asked for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_PLACES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _PLACES:
            return super().get_command(ctx, cmd_name)
        module, _, name = _PLACES[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(None, "--version", package_name="byokd", prog_name="byokd", message="%(prog)s %(version)s")
def main() -> None:
    """Watch customers' keys, keep account keys wrapped by them, publish every change.

    Exit codes: 0 good, 1 found bad, 2 usage or settings.
    """


@main.command(name="version")
def show_version() -> None:
    """Print the version."""
    from importlib.metadata import version  # noqa: PLC0415 - loads what reads wheels; no other verb waits for it

    click.echo(f"byokd {version('byokd')}")
