"""`byokd run` and `byokd check-config`."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import click
import structlog

from byokd.cli.voice import ExitCode, fail, say_error
from byokd.http.health import Probes, health_application
from byokd.http.management import Managed, management_application
from byokd.http.server import AddressInUseError, HttpTask, listen_tcp, listen_unix
from byokd.ports import ServiceKeysUnusableError
from byokd.runtime.configuration import SettingsInvalidError, read_settings
from byokd.runtime.daemon import GOODBYE, Farewell, NamedTask
from byokd.runtime.logs import configure_logs
from byokd.runtime.wiring import Service, wire
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
    configure_logs(settings.service.log_level)
    try:
        asyncio.run(_run(settings))
    except (AddressInUseError, ServiceKeysUnusableError) as error:
        fail(str(error), hint=error.hint, code=ExitCode.USAGE)
    except ExceptionGroup as group:
        structlog.get_logger().exception("daemon-failed")
        fail(f"the daemon ended: {_leaf(group)}", hint="the log above says where; the service manager restarts it")


@click.command(name="check-config")
@settings_option
def check_config(settings_path: Path) -> None:
    """Read the settings and name every mistake, without starting anything."""
    read_or_fail(settings_path)
    click.echo(f"{settings_path}: good")


def read_or_fail(path: Path) -> Settings:
    """Read the settings, or name all mistakes and end with exit code 2."""
    try:
        return read_settings(path, os.environ)
    except SettingsInvalidError as error:
        for mistake in error.mistakes:
            say_error(f"{mistake.place}: {mistake.message}")
        fail(
            f"nothing was started: {len(error.mistakes)} mistakes in the settings",
            hint="docs/settings.md has every setting with its form and default",
            code=ExitCode.USAGE,
        )


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        wired = await wire(settings, stack)
        service = wired.service
        host, _, port = settings.http.listen.rpartition(":")
        listener = stack.enter_context(listen_tcp(host.strip("[]"), int(port)))
        unix_listener = stack.enter_context(listen_unix(settings.service.socket))
        stack.callback(settings.service.socket.unlink, missing_ok=True)
        probes = _probes(settings, service)
        managed = Managed(
            settings,
            service.store,
            service.registrar,
            service.scheduler,
            probes=probes,
            http="{}:{}".format(*listener.getsockname()[:2]),
        )
        health = HttpTask(health_application(probes, settings.http), listener)
        management = HttpTask(management_application(managed), unix_listener)
        daemon = service.daemon(
            stop,
            prepare=wired.store.prepare,
            always=[NamedTask("http", health.run), NamedTask("management", management.run)],
            closing=[Farewell("management", management.stop, GOODBYE)],
        )
        await daemon.run()


def _probes(settings: Settings, service: Service) -> Probes:
    return Probes(
        clock=service.clock,
        health=service.health,
        observer=service.observer,
        metrics=service.metrics,
        mqtt=settings.mqtt,
        instance=settings.service.instance,
    )


def _stop_on_signals(stop: asyncio.Event) -> None:
    """Stop on the first signal; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def received(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)


def _leaf(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
