"""Event Grid: hears what happens to vaults, and has it carried to those who subscribed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from byokd.emulator.deliveries import Courier
from byokd.emulator.event_requests import WebhookClient
from byokd.emulator.expiry import ExpiryWatch
from byokd.emulator.grid_events import GridEvent, key_event, policy_event, resource_event
from byokd.emulator.refusals import WorldError, nothing_named
from byokd.emulator.resources import PURGE
from byokd.emulator.subscriptions import Subscription
from byokd.emulator.tokens import TokenAuthority
from byokd.emulator.vaults import Key, KeyVersion, Vault
from byokd.emulator.vocabulary import Dialect, EventType
from byokd.emulator.world import World

_LOOK_SECONDS = 1.0
"""How often expiry is looked for."""


class EventGrid:
    """The witness of a world. Run one with `EventGrid.running`."""

    def __init__(self, world: World, client: WebhookClient) -> None:
        self._world = world
        self._client = client
        self._expiry = ExpiryWatch()
        self._couriers: dict[tuple[str, str], tuple[Courier, asyncio.Task[None]]] = {}
        self._tasks = asyncio.TaskGroup()

    @classmethod
    @asynccontextmanager
    async def running(cls, world: World, authority: TokenAuthority, url: str) -> AsyncIterator["EventGrid"]:
        """Deliver until the block ends, and not a moment longer: what is under way is cut off.

        `url` is the plain listener of this emulator, where fetching a validation URL is noticed.
        """
        connector = aiohttp.TCPConnector(force_close=True)  # as seen from the live service
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            grid, ready = cls(world, WebhookClient(world, authority, session, url)), asyncio.Event()
            task = asyncio.create_task(grid._run(ready), name="event-grid")
            await ready.wait()
            world.witness = grid
            try:
                yield grid
            finally:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()

    async def subscribe(self, vault: Vault, subscription: Subscription) -> None:
        """Shake hands with the endpoint, then deliver to it; WorldError when the name is taken or it does not agree."""
        if subscription.name in vault.subscriptions:
            raise WorldError(f"the subscription name {subscription.name!r} is taken", "delete it first")
        await self._client.validate(vault, subscription)
        if subscription.name in vault.subscriptions:
            raise WorldError(f"the subscription name {subscription.name!r} was just taken", "delete it first")
        vault.subscriptions[subscription.name] = subscription
        courier = Courier(self._world, self._client, subscription)
        task = self._tasks.create_task(courier.run(), name=f"event-grid-{vault.name}-{subscription.name}")
        self._couriers[vault.name, subscription.name] = courier, task

    def unsubscribe(self, vault: Vault, name: str) -> Subscription:
        """End a subscription; what it has not delivered is lost."""
        subscription = vault.subscriptions.pop(name, None)
        if subscription is None:
            raise nothing_named("subscription", name, known="`byokd emulator subscription list`")
        _, task = self._couriers.pop((vault.name, name))
        task.cancel()
        return subscription

    def version_created(self, vault: Vault, key: Key, version: KeyVersion) -> None:
        """A new version, of a new key too."""
        self._tell_of_key(EventType.KEY_NEW_VERSION, vault, key, version)
        self.attributes_changed(vault, key)

    def attributes_changed(self, vault: Vault, key: Key) -> None:
        """Only times have events; that a key was disabled or enabled has none."""
        self._expiry.note(vault, key)
        self._look()

    def access_policy_changed(self, vault: Vault) -> None:
        """Policies, or whether the vault goes by them."""
        self._publish(vault, policy_event(vault, now=self._world.clock(), as_sample=self._as_sample()))

    def resource_changed(self, vault: Vault, operation: str, resource: str) -> None:
        """What ARM did. With a purge the subscriptions of the vault end, once all is delivered."""
        self._publish(vault, resource_event(vault, operation, resource, now=self._world.clock()))
        if operation == PURGE:
            for name in vault.subscriptions:
                self._couriers.pop((vault.name, name))[0].close()
            vault.subscriptions.clear()

    async def _run(self, ready: asyncio.Event) -> None:
        async with self._tasks:
            ready.set()
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                self._look()

    def _look(self) -> None:
        for kind, vault, key, version in self._expiry.look(self._world.clock()):
            self._tell_of_key(kind, vault, key, version)

    def _tell_of_key(self, kind: EventType, vault: Vault, key: Key, version: KeyVersion) -> None:
        now, as_sample = self._world.clock(), self._as_sample()
        self._publish(vault, key_event(kind, vault, key, version, now=now, as_sample=as_sample))

    def _publish(self, vault: Vault, event: GridEvent) -> None:
        for name, subscription in vault.subscriptions.items():
            if subscription.wants(event.type):
                self._couriers[vault.name, name][0].take(event)

    def _as_sample(self) -> bool:
        return Dialect.EVENTS_AS_IN_THE_SAMPLE in self._world.dialects
