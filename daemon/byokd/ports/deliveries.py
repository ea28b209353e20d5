"""Who delivers, as a token of Entra ID tells."""

from typing import Protocol


class DeliveryKeysUnavailableError(Exception):
    """The keys by which tokens are proved are not to be had. Our trouble, not that of who delivers."""


class DeliveryTokens(Protocol):
    """Judges tokens that come with deliveries."""

    async def are_from(self, token: str, *, authority: str, tenant: str, audience: str, application: str) -> bool:
        """Whether Entra ID gave this token, now in its time, to that application, in that tenant, for that audience.

        `authority` is the host of Entra ID in the tenant's cloud.

        A token is never kept, logged or sent anywhere.

        Raises:
            DeliveryKeysUnavailableError: the keys of that tenant cannot be had now: nothing can be said of a token.
        """
        ...
