"""The daemon's process: everything is joined here. Only `byokd run` imports this, as it loads all there is."""

import asyncio
import signal
from contextlib import AsyncExitStack

import structlog

from byokd.cli.voice import ExitCode, fail
from byokd.http.health import Probes, health_application
from byokd.http.managed import Managed
from byokd.http.management import management_application
from byokd.http.server import AddressInUseError, HttpTask, listen_tcp, listen_unix
from byokd.ports import ServiceKeysUnusableError
from byokd.runtime.daemon import GOODBYE, Farewell, NamedTask
from byokd.runtime.logs import configure_logs
from byokd.runtime.wiring import Service, wire
from byokd.settings import Settings


def serve(settings: Settings) -> None:
    """Run the daemon until SIGTERM or SIGINT; end the program when it cannot start or fails."""
    configure_logs(settings.service.log_level)
    try:
        asyncio.run(_run(settings))
    except (AddressInUseError, ServiceKeysUnusableError) as error:
        fail(str(error), hint=error.hint, code=ExitCode.USAGE)
    except ExceptionGroup as group:
        cause = _leaf(group)
        if isinstance(cause, ServiceKeysUnusableError):
            fail(str(cause), hint=cause.hint, code=ExitCode.USAGE)
        structlog.get_logger().exception("daemon-failed")
        fail(
            f"the daemon ended: {type(cause).__name__}: {cause}",
            hint="the log above says where; the service manager restarts it",
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
            publisher=service.publisher,
            resealer=service.resealer,
            verifier=service.verifier,
            probes=probes,
            http="{}:{}".format(*listener.getsockname()[:2]),
            values=service.values,
        )
        health = HttpTask(health_application(probes, settings.http), listener)
        management = HttpTask(management_application(managed, service.tailing), unix_listener)
        daemon = service.daemon(
            stop,
            prepare=wired.store.prepare,
            always=[NamedTask("http", health.run), NamedTask("management", management.run)],
            closing=[
                Farewell("watchers", service.tailing.close, GOODBYE),
                Farewell("management", management.stop, GOODBYE),
            ],
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


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
