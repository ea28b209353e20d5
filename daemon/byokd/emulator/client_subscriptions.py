"""The part of the control client that is about event subscriptions."""

from typing import TYPE_CHECKING, Any, Unpack, cast
from urllib.parse import quote

from byokd.emulator.subscription_documents import SubscriptionOptions, SubscriptionState


class SubscriptionCalls:
    """What `ControlClient` can do about event subscriptions. Every method raises `ControlError`."""

    async def create_subscription(
        self, vault: str, name: str, endpoint: str, **options: Unpack[SubscriptionOptions]
    ) -> SubscriptionState:
        """Deliver the events of a vault to a webhook, which has to answer the handshake first."""
        body = {"name": name, "endpoint": endpoint, **options}
        return cast("SubscriptionState", await self._send("POST", _place(vault), body))

    async def subscriptions(self, vault: str) -> list[SubscriptionState]:
        """All subscriptions of a vault."""
        return cast("list[SubscriptionState]", await self._send("GET", _place(vault)))

    async def subscription(self, vault: str, name: str) -> SubscriptionState:
        """One subscription."""
        return cast("SubscriptionState", await self._send("GET", _place(vault, name)))

    async def delete_subscription(self, vault: str, name: str) -> None:
        """End a subscription; what it has not delivered is lost."""
        await self._send("DELETE", _place(vault, name))

    if TYPE_CHECKING:

        async def _send(self, method: str, path: str, body: object = None) -> Any: ...  # noqa: ANN401


def _place(vault: str, name: str = "") -> str:
    return f"vaults/{quote(vault)}/subscriptions" + (f"/{quote(name)}" if name else "")
