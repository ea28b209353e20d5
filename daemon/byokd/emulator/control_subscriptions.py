"""The control API for event subscriptions, and the place where fetching a validation URL is noticed."""

from aiohttp import web

from byokd.emulator import views
from byokd.emulator.control_requests import PREFIX, read_command
from byokd.emulator.event_grid import EventGrid
from byokd.emulator.event_requests import VALIDATION_PATH, note_fetched
from byokd.emulator.refusals import nothing_named
from byokd.emulator.subscription_commands import CreateSubscription
from byokd.emulator.vaults import Vault
from byokd.emulator.world import World


class SubscriptionControl:
    """Handlers over the subscriptions of one world's vaults. No answer holds a header's value or a token.

    `grid` is what delivers; it is set before anything is served.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.grid: EventGrid | None = None

    def routes(self) -> list[web.RouteDef]:
        """All routes of this part."""
        all_of_vault = f"{PREFIX}/vaults/{{vault}}/subscriptions"
        return [
            web.post(all_of_vault, self.create),
            web.get(all_of_vault, self.list),
            web.get(f"{all_of_vault}/{{subscription}}", self.show),
            web.delete(f"{all_of_vault}/{{subscription}}", self.delete),
            web.get(VALIDATION_PATH, self.fetched),
            web.post(VALIDATION_PATH, self.fetched),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """A subscription, once its endpoint agreed."""
        vault, wanted = self._named(request), await read_command(request, CreateSubscription)
        asked_for = None if wanted.token is None else wanted.token.tenant
        tenant = vault.tenant_id if asked_for is None else self._world.tenant(asked_for)
        subscription = wanted.subscription(tenant)
        await self._running().subscribe(vault, subscription)
        return web.json_response(views.subscription_state(subscription))

    async def list(self, request: web.Request) -> web.Response:
        """All of a vault."""
        return web.json_response([views.subscription_state(one) for one in self._named(request).subscriptions.values()])

    async def show(self, request: web.Request) -> web.Response:
        """One."""
        name = request.match_info["subscription"]
        subscription = self._named(request).subscriptions.get(name)
        if subscription is None:
            raise nothing_named("subscription", name, known="`byokd emulator subscription list`")
        return web.json_response(views.subscription_state(subscription))

    async def delete(self, request: web.Request) -> web.Response:
        """End one."""
        self._running().unsubscribe(self._named(request), request.match_info["subscription"])
        return web.json_response({})

    async def fetched(self, _: web.Request) -> web.Response:
        """Somebody fetched a validation URL: counted, and without effect."""
        note_fetched(self._world)
        return web.Response(text="noted; the emulator validates by the handshake alone")

    def _named(self, request: web.Request) -> Vault:
        return self._world.vault(request.match_info["vault"])

    def _running(self) -> EventGrid:
        if self.grid is None:
            raise RuntimeError("the emulator serves before it is ready")
        return self.grid
