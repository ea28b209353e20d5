"""The requests that Event Grid makes: of a webhook the handshake, and deliveries; of a queue that it takes messages."""

import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Final

import aiohttp

from byokd.emulator.calls import Calls
from byokd.emulator.grid_events import GridEvent, written, written_time
from byokd.emulator.queue_messages import headers_at, message_of
from byokd.emulator.refusals import WorldError
from byokd.emulator.subscriptions import Subscription
from byokd.emulator.tokens import LOGIN_HOST, TokenAuthority
from byokd.emulator.vaults import Vault
from byokd.emulator.vocabulary import EVENT_GRID, EndpointType, Operation, Schema
from byokd.emulator.world import World

ORIGIN: Final = "eventgrid.azure.net"
VALIDATION_PATH: Final = "/eventsubscriptions/{name}/validate"
_TOKEN_SECONDS: Final = 3_600
_MOST_READ: Final = 65_536
"""Octets of an answer to the handshake that are looked at."""


class WebhookClient:
    """Speaks to endpoints. `url` is where this emulator would notice that a validation URL was fetched."""

    def __init__(self, world: World, authority: TokenAuthority, session: aiohttp.ClientSession, url: str) -> None:
        self._world = world
        self._authority = authority
        self._session = session
        self._url = url

    async def validate(self, vault: Vault, subscription: Subscription) -> None:
        """The handshake: raises WorldError unless the endpoint agrees in its schema's way. A queue is not asked."""
        if subscription.endpoint_type is EndpointType.QUEUE:
            return
        cloud_events = subscription.schema is Schema.CLOUD_EVENTS
        try:
            await (self._ask_origin(subscription) if cloud_events else self._ask_code(vault, subscription))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _note(self._world.calls, Operation.VALIDATE, 0, "refused")
            raise _not_validated(subscription, f"gave no answer: {type(error).__name__}") from None

    async def deliver(self, subscription: Subscription, events: Sequence[GridEvent], *, attempt: int) -> int:
        """The status that the endpoint answers with, 0 for no answer in time; `attempt` counts from 0."""
        if subscription.endpoint_type is EndpointType.QUEUE:
            return await self._put(subscription, events[0])
        content_type, body = written(events, subscription.schema, batched=subscription.batch_size > 1)
        own = {
            "Content-Type": content_type,
            "aeg-event-type": "Notification",
            "aeg-subscription-name": subscription.name.upper(),
            "aeg-delivery-count": str(attempt),
            "aeg-metadata-version": "1",
        }
        if subscription.schema is Schema.CLOUD_EVENTS:
            own |= {"aeg-data-version": "", "Origin": ORIGIN}
        else:
            own["aeg-data-version"] = events[0].data_version
        if subscription.batch_size == 1:
            own["aeg-output-event-id"] = events[0].id
        return await self._status(subscription, own, body)

    async def _put(self, subscription: Subscription, event: GridEvent) -> int:
        own, body = headers_at(self._world.clock()), message_of(event, subscription.schema)
        return await self._status(subscription, own, body, below="/messages")

    async def _status(self, subscription: Subscription, own: Mapping[str, str], body: bytes, below: str = "") -> int:
        try:
            async with self._request("POST", subscription, own, body, below=below) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0

    async def _ask_code(self, vault: Vault, subscription: Subscription) -> None:
        code = str(uuid.uuid4()).upper()
        event = {
            "id": str(uuid.uuid4()),
            "topic": vault.arm_id,
            "subject": "",
            "data": {"validationCode": code, "validationUrl": self._validation_url(subscription, code)},
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": written_time(self._world.clock()),
            "metadataVersion": "1",
            "dataVersion": "2",
        }
        own = {
            "Content-Type": "application/json; charset=utf-8",
            "aeg-event-type": "SubscriptionValidation",
            "aeg-subscription-name": subscription.name.upper(),
            "aeg-delivery-count": "0",
            "aeg-data-version": "2",
            "aeg-metadata-version": "1",
        }
        async with self._request("POST", subscription, own, json.dumps([event]).encode()) as response:
            text = await response.content.read(_MOST_READ)
        agreed = response.status == HTTPStatus.OK and _response_code(text) == code
        _note(self._world.calls, Operation.VALIDATE, response.status, "agreed" if agreed else "refused")
        if response.status != HTTPStatus.OK:
            raise _not_validated(subscription, f"answered {response.status} and not 200")
        if not agreed:
            raise _not_validated(subscription, "did not send the validation code back as `validationResponse`")

    async def _ask_origin(self, subscription: Subscription) -> None:
        callback = self._validation_url(subscription, str(uuid.uuid4()).upper())
        own = {"WebHook-Request-Origin": ORIGIN, "WebHook-Request-Callback": callback}
        async with self._request("OPTIONS", subscription, own, None) as response:
            allowed = response.headers.get("WebHook-Allowed-Origin", "").strip().lower()
        agreed = response.status == HTTPStatus.OK and allowed in (ORIGIN, "*")
        _note(self._world.calls, Operation.VALIDATE, response.status, "agreed" if agreed else "refused")
        if response.status != HTTPStatus.OK:
            raise _not_validated(subscription, f"answered {response.status} and not 200")
        if not agreed:
            raise _not_validated(subscription, f"did not allow {ORIGIN} by a `WebHook-Allowed-Origin` header")

    def _request(
        self, method: str, subscription: Subscription, own: Mapping[str, str], body: bytes | None, *, below: str = ""
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {**subscription.headers, **own, **self._authorization(subscription)}
        return self._session.request(
            method,
            subscription.endpoint + below,
            headers=headers,
            data=body,
            ssl=subscription.tls or True,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=subscription.pace.answer_seconds),
        )

    def _authorization(self, subscription: Subscription) -> dict[str, str]:
        token = subscription.token
        if token is None:
            return {}
        now, newer = int(self._world.clock()), token.version == 2  # noqa: PLR2004 - the newer form of tokens
        issuer = f"https://{LOGIN_HOST}/{token.tenant}/v2.0" if newer else f"https://sts.windows.net/{token.tenant}/"
        claims = {
            "aud": token.audience,
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + _TOKEN_SECONDS,
            "azp" if newer else "appid": token.application,
            "azpacr" if newer else "appidacr": "2",
            "roles": ["AzureEventGridSecureWebhookSubscriber"],
            "tid": token.tenant,
            "uti": str(self._world.next_token()),
            "ver": "2.0" if newer else "1.0",
        }
        return {"Authorization": f"Bearer {self._authority.sign(claims)}"}

    def _validation_url(self, subscription: Subscription, code: str) -> str:
        path = VALIDATION_PATH.format(name=subscription.name)
        when = written_time(self._world.clock())
        return f"{self._url}{path}?id={code}&t={when}&apiVersion=2022-06-15&token={secrets.token_urlsafe(24)}"


def note_fetched(world: World) -> None:
    """Count that somebody fetched a validation URL, which no receiver should ever do."""
    _note(world.calls, Operation.VALIDATE, HTTPStatus.OK, "validation_url_fetched")


def _note(calls: Calls, operation: Operation, status: int, code: str) -> None:
    calls.note(EVENT_GRID, operation, status, code)


def _response_code(text: bytes) -> object:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document.get("validationResponse") if isinstance(document, dict) else None


def _not_validated(subscription: Subscription, reason: str) -> WorldError:
    shown = subscription.shown_endpoint
    return WorldError(
        f"the handshake with {shown} failed: it {reason}",
        "the endpoint must be running, know what it is sent (headers, token), and agree to the subscription",
        HTTPStatus.BAD_REQUEST,
    )
