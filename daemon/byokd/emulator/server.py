"""The emulator itself: two listeners on loopback around one world, in a test or as a process."""

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiohttp import TCPConnector, web

from byokd.emulator.arm import ARM_HOST, ArmService
from byokd.emulator.client import ControlClient
from byokd.emulator.control import Control
from byokd.emulator.control_requests import explain
from byokd.emulator.control_roles import RoleControl
from byokd.emulator.control_subscriptions import SubscriptionControl
from byokd.emulator.control_vaults import VaultControl
from byokd.emulator.entra import EntraService
from byokd.emulator.event_grid import EventGrid
from byokd.emulator.exchange import Exchange, host_of
from byokd.emulator.key_operations import KeyOperations
from byokd.emulator.keyvault import VaultService
from byokd.emulator.managed_identity import APP_SERVICE_PATH, IMDS_PATH, IdentityService
from byokd.emulator.material import KeyMaker
from byokd.emulator.routes import EmulatorResolver, trusting_context
from byokd.emulator.tls import make_context
from byokd.emulator.tokens import LOGIN_HOSTS, TokenAuthority
from byokd.emulator.world import World

LOOPBACK = "127.0.0.1"
_SIGNING_BITS = 2048
_LAST_WORDS_SECONDS = 1.0
"""How long requests under way may take once the emulator stops."""


class Address(NamedTuple):
    """Where a listener listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Emulator:
    """A running emulator. Make one with `Emulator.start`."""

    def __init__(
        self, *, world: World, addresses: tuple[Address, Address], ca_file: Path, control: ControlClient
    ) -> None:
        self.world = world
        self.tls_address, self.http_address = addresses
        self.ca_file = ca_file
        self.control = control
        self.identity_header = ""

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        *,
        state_dir: Path,
        tls_port: int = 0,
        http_port: int = 0,
        clock: Callable[[], float] = time.time,
        keys: KeyMaker | None = None,
    ) -> AsyncIterator["Emulator"]:
        """Run an emulator until the block ends; no socket or task outlives it.

        Port 0 takes a free one. `clock` gives epoch seconds for everything but the validity of the TLS certificates.
        `keys` makes all RSA key pairs; one with a pool can be shared by many emulators. The authority's
        certificate is written to `ca.pem` in `state_dir`, which is made when it is missing.
        """
        ca_file = state_dir / "ca.pem"
        world, stopping = World(clock), asyncio.Event()
        maker = keys or KeyMaker()
        authority = TokenAuthority(world, (await maker.rsa(_SIGNING_BITS)).private)
        operations = KeyOperations(world, maker)
        exchange = Exchange(world, stopping)
        identities = IdentityService(world, authority, secrets.token_urlsafe(24))
        app, subscriptions = web.Application(middlewares=[explain]), SubscriptionControl(world)
        parts = Control(world), VaultControl(world, operations), RoleControl(world), subscriptions
        app.add_routes([route for part in parts for route in part.routes()])
        for path in (IMDS_PATH, APP_SERVICE_PATH):
            app.router.add_get(path, partial(_identity, exchange, identities))
        server = web.Server(_azure(world, authority, operations, exchange), access_log=None, handler_cancellation=True)
        azure = web.ServerRunner(server, shutdown_timeout=_LAST_WORDS_SECONDS)
        plain = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_LAST_WORDS_SECONDS)
        async with AsyncExitStack() as stack:
            for runner in (azure, plain):
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
            stack.callback(stopping.set)
            tls_address = await _listen(stack, azure, tls_port, make_context(ca_file))
            http_address = await _listen(stack, plain, http_port, None)
            url = f"http://{http_address}"
            subscriptions.grid = await stack.enter_async_context(EventGrid.running(world, authority, url))
            control = await stack.enter_async_context(ControlClient(url))
            emulator = cls(world=world, addresses=(tls_address, http_address), ca_file=ca_file, control=control)
            emulator.identity_header = identities.header
            yield emulator

    @property
    def http_url(self) -> str:
        """Where control API and managed-identity endpoints are."""
        return f"http://{self.http_address}"

    @property
    def connect_to(self) -> dict[str, str]:
        """Host patterns and the address that they lead to, for settings that redirect connections."""
        return dict.fromkeys(("*.vault.azure.net", *LOGIN_HOSTS, ARM_HOST), str(self.tls_address))

    def imds_environment(self) -> dict[str, str]:
        """The variable that leads azure-identity to this emulator's IMDS."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self.http_url}

    def app_service_environment(self) -> dict[str, str]:
        """The variables that lead azure-identity to this emulator's App Service endpoint."""
        return {"IDENTITY_ENDPOINT": f"{self.http_url}{APP_SERVICE_PATH}", "IDENTITY_HEADER": self.identity_header}

    def connector(self) -> TCPConnector:
        """A connector through which an aiohttp session, or an Azure client over it, reaches this emulator.

        To it the name of a deleted or unknown vault does not resolve.
        """
        resolver = EmulatorResolver(self.tls_address, self._resolves)
        return TCPConnector(resolver=resolver, ssl=trusting_context(self.ca_file), use_dns_cache=False)

    def _resolves(self, host: str) -> bool:
        return host in {*LOGIN_HOSTS, ARM_HOST} or self.world.vault_at(host) is not None


Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _azure(world: World, authority: TokenAuthority, operations: KeyOperations, exchange: Exchange) -> Serve:
    entra, arm = EntraService(world, authority), ArmService(world, authority)

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        host = host_of(request)
        if host in LOGIN_HOSTS:
            return await exchange.serve(request, entra)
        if host == ARM_HOST:
            return await exchange.serve(request, arm)
        vault = world.vault_at(host)
        if vault is None:
            return exchange.unknown(request)
        return await exchange.serve(request, VaultService(world, authority, operations, vault))

    return serve


async def _identity(exchange: Exchange, service: IdentityService, request: web.Request) -> web.StreamResponse:
    return await exchange.serve(request, service)


async def _listen(stack: AsyncExitStack, runner: web.BaseRunner, port: int, context: ssl.SSLContext | None) -> Address:
    site = web.TCPSite(runner, LOOPBACK, port, ssl_context=context, reuse_address=True)
    await site.start()
    stack.push_async_callback(site.stop)
    host, number = runner.addresses[0][:2]
    return Address(host, number)
