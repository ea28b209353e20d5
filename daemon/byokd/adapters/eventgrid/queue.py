"""The EventQueue port over Azure Storage, by the SDK's own client with one configured identity.

Its token goes to the one host that the settings name: redirects are not followed, the account's secondary host is not
asked, and what an answer asks for (another resource, another tenant) is not met.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self, TypeVar

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.storage.queue.aio import QueueClient

from byokd.adapters.eventgrid.classify import GONE, Heard, classify_queue_error
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.ports.queues import QueuedMessage, QueueTrouble, QueueUnavailableError
from byokd.settings.event_grid import SourceSettings

SCOPE: Final = "https://storage.azure.com/.default"
"""What the token is for: Azure Storage, in every cloud (documentation)."""

_LONGEST_ID: Final = 64

_SILENCE: Final = logging.Logger("silence")  # noqa: LOG001 - among the known ones its state could be changed
_SILENCE.disabled = True

_QUIET: Final[dict[str, Any]] = {
    "retry_total": 0,
    "permit_redirects": False,
    "logging_enable": False,
    "logger": _SILENCE,
    "user_agent": "byokd",
}
"""One call is one request; whoever calls decides about another."""

Transport = AsyncHttpTransport[HttpRequest, AsyncHttpResponse]
_T = TypeVar("_T")


class Tokens(Protocol):
    """Tokens by the name of an identity."""

    async def token(self, identity: IdentityName, *, scope: str, tenant: TenantId, rejected: str | None = None) -> str:
        """Give a token for `scope` in `tenant`, another one than the `rejected` where it may be asked for."""
        ...


@dataclass(slots=True)
class _Credential:
    """One identity, for Azure Storage alone, in the shape that azure-core asks for."""

    tokens: Tokens
    identity: IdentityName
    tenant: TenantId
    shown: str | None = field(default=None, repr=False)
    rejected: str | None = field(default=None, repr=False)

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        if scopes != (SCOPE,):
            raise QueueUnavailableError(QueueTrouble.TOKEN_REFUSED, code="ChallengeResource")
        if (options or {}).get("tenant_id"):
            # Only an answer that did not take the last one names a tenant. It is not asked: ours is in the settings.
            self.rejected = self.shown
        self.shown = await self.tokens.token(self.identity, scope=SCOPE, tenant=self.tenant, rejected=self.rejected)
        # The source keeps tokens and renews them; an expiry of now makes the SDK ask it every time.
        return AccessTokenInfo(self.shown, int(time.time()))

    async def get_token(self, *scopes: str, tenant_id: str | None = None, **_: object) -> AccessToken:
        """Give the same in the SDK's older form, by which it knows a credential."""
        got = await self.get_token_info(*scopes, options={"tenant_id": tenant_id} if tenant_id else None)
        return AccessToken(got.token, got.expires_on)

    async def close(self) -> None:
        """Nothing is held."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


class AzureEventQueue:
    """One queue of a storage account. See `EventQueue`."""

    def __init__(self, source: SourceSettings, transport: Transport, tokens: Tokens, *, tenant: TenantId) -> None:
        """Take what the source says, the way out, which is not closed here, the tokens, and the account's tenant."""
        account, _, name = (source.queue or "").rpartition("/")
        self._batch = source.batch
        self._visibility = int(source.visibility_timeout.total_seconds())
        self._credential = _Credential(tokens, IdentityName(source.identity or ""), tenant)
        self._queue = _client(account, name, self._credential, transport)
        aside = source.poison_queue
        self._poison = None if aside is None else _client(account, aside, self._credential, transport)

    async def receive(self) -> Sequence[QueuedMessage]:
        """Get messages."""
        return await self._classified(self._receive)

    async def delete(self, message: QueuedMessage) -> None:
        """Delete one."""

        async def delete(heard: Heard) -> None:
            try:
                await self._queue.delete_message(message.id, message.receipt, raw_response_hook=heard.take)
            except Exception:
                if heard.code not in GONE:
                    raise

        await self._classified(delete)

    async def set_aside(self, message: QueuedMessage) -> None:
        """Write one to the poison queue, where it stays for Azure's usual 7 days."""

        async def write(heard: Heard) -> None:
            if self._poison is None:
                raise QueueUnavailableError(QueueTrouble.MISSING)
            await self._poison.send_message(message.text, raw_response_hook=heard.take)

        await self._classified(write)

    async def peek(self) -> None:
        """See whether messages could be read."""

        async def peek(heard: Heard) -> None:
            await self._queue.peek_messages(max_messages=1, raw_response_hook=heard.take)

        await self._classified(peek)

    async def _receive(self, heard: Heard) -> Sequence[QueuedMessage]:
        pages = self._queue.receive_messages(
            messages_per_page=self._batch, visibility_timeout=self._visibility, raw_response_hook=heard.take
        ).by_page()
        page = await anext(pages, None)
        got = [] if page is None else [one async for one in page]
        return [
            QueuedMessage(
                id=str(one.id)[:_LONGEST_ID],
                receipt=str(one.pop_receipt),
                text=one.content if isinstance(one.content, str) else "",
                tries=int(one.dequeue_count or 1),
            )
            for one in got
        ]

    async def _classified(self, call: Callable[[Heard], Awaitable[_T]]) -> _T:
        heard = Heard()
        try:
            return await call(heard)
        except Exception as error:  # noqa: BLE001 - whatever the way throws must not end as a defect of the reader
            trouble = classify_queue_error(error, heard)
            if trouble.trouble is QueueTrouble.TOKEN_REFUSED:
                self._credential.rejected = self._credential.shown
            raise trouble from None


def _client(account: str, name: str, credential: _Credential, transport: Transport) -> QueueClient:
    return QueueClient(account, name, credential=credential, transport=transport, **_QUIET)
