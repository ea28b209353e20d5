"""`byokd run` and `byokd check-config`."""

import os
from pathlib import Path

import click

from byokd.cli.voice import ExitCode, counted, fail, say_error, say_warning
from byokd.runtime.configuration import SettingsInvalidError, read_settings
from byokd.runtime.findings import Grade
from byokd.settings import Settings

DEFAULT_SETTINGS = Path("/etc/byokd/byokd.toml")

settings_option = click.option(
    "--settings",
    "settings_path",
    type=click.Path(path_type=Path),
    default=DEFAULT_SETTINGS,
    envvar="BYOKD_SETTINGS",
    show_default=True,
    show_envvar=True,
    help="Settings file (TOML).",
)


@click.command()
@settings_option
def run(settings_path: Path) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT."""
    settings = read_or_fail(settings_path)
    from byokd.cli.serving import serve  # noqa: PLC0415 - loads the whole daemon; the other verbs start without

    serve(settings, lambda: read_settings(settings_path, os.environ))


@click.command(name="check-config")
@settings_option
def check_config(settings_path: Path) -> None:
    """Read the settings and name every mistake, without starting anything.

    Whether settings fit each other is looked at once each of them is right by itself.

    Certificates that have ended, or do not hold yet, are named too, and clouds that do not fit; exit 1 when one is bad.
    """
    settings = read_or_fail(settings_path)
    from byokd.runtime.clock import SystemClock  # noqa: PLC0415 - as below
    from byokd.runtime.examinations.configured import (  # noqa: PLC0415 - loads cryptography
        examine_broker_certificate,
        examine_configured,
    )

    identities, suffixes = settings.identities, settings.vaults.allowed_suffixes
    now = SystemClock().now()
    found = [
        *examine_configured(identities, suffixes=suffixes, now=now),
        *examine_broker_certificate(settings.mqtt.certificate_file, now=now),
    ]
    for one in found:
        say_error(one.found, hint=one.hint) if one.grade is Grade.BAD else say_warning(one.found, hint=one.hint)
    if any(one.grade is Grade.BAD for one in found):
        raise SystemExit(int(ExitCode.FOUND_BAD))
    click.echo(f"{settings_path}: good")


def read_or_fail(path: Path) -> Settings:
    """Read the settings, or name all mistakes and end with exit code 2."""
    try:
        return read_settings(path, os.environ)
    except SettingsInvalidError as error:
        for mistake in error.mistakes:
            say_error(f"{mistake.place}: {mistake.message}")
        fail(
            f"nothing was started: {counted(len(error.mistakes), 'mistake')} in the settings",
            hint="docs/settings.md has every setting with its form and default; whether settings fit each other is "
            "looked at once each of them is right",
            code=ExitCode.USAGE,
        )
