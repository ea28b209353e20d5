"""The daemon's process: everything is joined here. Only `byokd run` imports this, as it loads all there is."""

import asyncio
import faulthandler
import gc
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from fastapi import FastAPI

from byokd.cli.voice import ExitCode, fail
from byokd.http.event_grid import Deliveries, Refusal, event_grid_application
from byokd.http.health import Probes, health_application
from byokd.http.managed import Managed
from byokd.http.management import management_application
from byokd.http.server import AddressInUseError, HttpTask, listen_tcp, listen_unix
from byokd.http.switching import RequestsUnderWayError, Switchable
from byokd.http.waiting import WaitingRoom
from byokd.ports import ServiceKeysUnusableError
from byokd.runtime.daemon import GOODBYE, Daemon, Farewell, NamedTask
from byokd.runtime.delivery_secrets import read_secrets
from byokd.runtime.logs import configure_logs
from byokd.runtime.private_memory import keep_memory_private
from byokd.runtime.reloading import ChangeRefusedError, Reloader
from byokd.runtime.service import Service
from byokd.runtime.service_manager import Watchdog
from byokd.runtime.tasks import daemon_over
from byokd.runtime.wiring import Wired, rewire, wire
from byokd.settings import Settings

ReadSettings = Callable[[], Settings]

REQUESTS_GRACE = timedelta(seconds=30)
"""How long a reload waits for requests that change accounts. An apply of many takes longer: the reload is refused."""


def serve(settings: Settings, read: ReadSettings) -> None:
    """Run the daemon until SIGTERM or SIGINT; end the program when it cannot start or fails.

    Args:
        settings: what to start with.
        read: reads them again, for a reload.
    """
    keep_memory_private()
    configure_logs(settings.service.log_level)
    # A watchdog ends a hung process by SIGABRT: the log then says where each thread was.
    faulthandler.enable()
    # What is loaded stays: the collector need not look through it again and again (a sixth of a fan-out's time).
    gc.freeze()
    try:
        asyncio.run(_run(settings, read))
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


async def _run(settings: Settings, read: ReadSettings) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        wired = await wire(settings, stack)
        listener = stack.enter_context(listen_tcp(settings.http.listen, setting="http.listen"))
        grid = None
        if settings.event_grid.webhooks:
            grid = stack.enter_context(listen_tcp(settings.event_grid.listen, setting="event_grid.listen"))
        unix_listener = stack.enter_context(listen_unix(settings.service.socket))
        stack.callback(settings.service.socket.unlink, missing_ok=True)
        process = _Process(wired, read, listener=listener, unix_listener=unix_listener, grid=grid, stop=stop)
        stack.push_async_callback(process.close)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, process.reloader.signalled)
        await process.run()


class _Process:
    """What listens, which stays; and the service behind it, which a reload replaces."""

    def __init__(
        self,
        wired: Wired,
        read: ReadSettings,
        *,
        listener: socket.socket,
        unix_listener: socket.socket,
        grid: socket.socket | None,
        stop: asyncio.Event,
    ) -> None:
        self._service, self._prepare, self._ways = wired.service, wired.store.prepare, wired.ways
        self._http = "{}:{}".format(*listener.getsockname()[:2])
        self._grid_address = None if grid is None else "{}:{}".format(*grid.getsockname()[:2])
        self._stop = stop
        self._manager = self._service.outside.manager
        self.reloader = Reloader(read, self._service.settings, self._change_over)
        self._pages = Switchable(self._pages_of(self._service))
        self._api = Switchable(self._api_of(self._service))
        self._management = HttpTask(self._api, unix_listener)
        self._always = [
            NamedTask("http", HttpTask(self._pages, listener).run),
            NamedTask("management", self._management.run),
            NamedTask("reloader", self.reloader.run),
        ]
        self._deliveries = _deliveries_of(self._service)
        self._grid = None if grid is None else Switchable(event_grid_application(self._deliveries))
        if grid is not None and self._grid is not None:
            bounds = self._service.settings.event_grid
            room = WaitingRoom(
                most=bounds.waiting,
                seconds=bounds.head_timeout.total_seconds(),
                turned_away=lambda: self._deliveries.note(Refusal.NO_REQUEST),
            )
            self._always.append(NamedTask("event-grid", HttpTask(self._grid, grid, room=room).run))
        if self._manager.watchdog_interval is not None:
            watchdog = Watchdog(self._manager, self._service.clock, interval=self._manager.watchdog_interval)
            self._always.append(NamedTask("watchdog", watchdog.run))
        self._daemon = self._daemon_of(self._service)

    async def run(self) -> None:
        """Run until told to stop."""
        self._manager.status("starting: opening the store")
        await self._daemon.run()

    async def close(self) -> None:
        """Close the ways to the vaults."""
        await self._ways.aclose()

    async def _change_over(self, settings: Settings) -> None:
        """Put a service with other settings in the place of the one that runs."""
        if not self._daemon.has_started:
            raise ChangeRefusedError("the daemon has not started yet, or is stopping: restart it instead")
        if gone := self._service.scheduler.identities - settings.identities.keys():
            raise ChangeRefusedError(
                f"identities.{', identities.'.join(sorted(gone))}: accounts use it; give them another one first (byokd "
                "accounts repair, or apply), or restart byokd"
            )
        if settings.event_grid.webhooks and self._grid is None:
            raise ChangeRefusedError(
                "event_grid.sources: the first webhook needs a restart, as nothing listens for it yet"
            )
        ways = AsyncExitStack()
        async with AsyncExitStack() as quiet:
            try:
                successor = await rewire(settings, ways, self._service)
                await quiet.enter_async_context(self._api.held(within=REQUESTS_GRACE))
            except (OSError, RequestsUnderWayError) as error:
                await ways.aclose()
                raise ChangeRefusedError(str(error)) from None
            await self._replace(successor, ways)

    async def _replace(self, successor: Service, ways: AsyncExitStack) -> None:
        """End the old service's tasks and start the new one's. There is no way back: an error here ends the daemon."""
        self._manager.reloading()
        before, (self._ways, ways_before) = self._service, (ways, self._ways)
        configure_logs(successor.settings.service.log_level)
        await before.hand_over(self._daemon, successor, self._daemon_of(successor))
        self._service = successor
        self._pages.exchange(self._pages_of(successor))
        self._api.exchange(self._api_of(successor))
        if self._grid is not None:
            self._deliveries = _deliveries_of(successor)
            self._grid.exchange(event_grid_application(self._deliveries))
        await ways_before.aclose()

    def _daemon_of(self, service: Service) -> Daemon:
        return daemon_over(
            service,
            self._stop,
            prepare=self._prepare,
            always=self._always,
            closing=[
                Farewell("service-manager", self._say_stopping, GOODBYE),
                Farewell("deliveries", self._refuse_deliveries, GOODBYE),
                Farewell("watchers", service.tailing.close, GOODBYE),
                Farewell("management", self._management.stop, GOODBYE),
            ],
        )

    async def _say_stopping(self) -> None:
        self._manager.stopping()

    async def _refuse_deliveries(self) -> None:
        self._service.hints.stop()

    def _pages_of(self, service: Service) -> FastAPI:
        return health_application(_probes(service), service.settings.http)

    def _api_of(self, service: Service) -> FastAPI:
        managed = Managed(
            service.settings,
            service.store,
            service.registrar,
            service.repairer,
            service.scheduler,
            service.requirements,
            brakeman=service.brakeman,
            publisher=service.publisher,
            resealer=service.resealer,
            verifier=service.verifier,
            damages=service.damages,
            values=service.values,
            probes=_probes(service),
            http=self._http,
            event_grid=self._grid_address,
            reloader=self.reloader,
            explainer=service.explainer,
            inside=service.inside,
            has_started=lambda: self._daemon.has_started,
        )
        return management_application(managed, service.tailing)


def _deliveries_of(service: Service) -> Deliveries:
    settings = service.settings.event_grid
    return Deliveries(
        hints=service.hints,
        secrets=read_secrets(settings),
        tokens=service.outside.delivery_tokens,
        clock=service.clock,
        metrics=service.metrics,
        settings=settings,
    )


def _probes(service: Service) -> Probes:
    return Probes(
        clock=service.clock,
        health=service.health,
        observer=service.observer,
        metrics=service.metrics,
        mqtt=service.settings.mqtt,
        instance=service.settings.service.instance,
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
