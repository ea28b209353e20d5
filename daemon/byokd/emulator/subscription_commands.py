"""What the control API takes of event subscriptions."""

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from byokd.emulator.commands import Command, Guid
from byokd.emulator.queue_messages import AUDIENCE
from byokd.emulator.refusals import WorldError
from byokd.emulator.routes import trusting_context
from byokd.emulator.subscriptions import EVENT_GRID_APPLICATION, DeliveryToken, Pace, Subscription
from byokd.emulator.vocabulary import EndpointType, EventType, Schema, Topic


def _subscription_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{3,64}", name):
        raise ValueError("the name of an event subscription has 3 to 64 letters, digits and hyphens")
    return name


SubscriptionName = Annotated[str, AfterValidator(_subscription_name)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^(?![Aa][Ee][Gg]-)[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e]{1,4096}$")]


class TokenWanted(Command):
    """The Entra token of the deliveries; without a tenant that of the vault."""

    audience: Annotated[str, StringConstraints(min_length=1)]
    tenant: Guid | None = None
    application: Guid = EVENT_GRID_APPLICATION
    version: Literal[1, 2] = 1

    def of(self, tenant: str) -> DeliveryToken:
        """The token, from `tenant`."""
        return DeliveryToken(tenant, self.audience, self.application, self.version)


class CreateSubscription(Command):
    """A subscription to the events of a vault, or to ARM's about it."""

    name: SubscriptionName
    endpoint: str
    endpoint_type: EndpointType = EndpointType.WEBHOOK
    topic: Topic = Topic.KEY_VAULT
    schema_: Annotated[Schema, Field(alias="schema")] = Schema.EVENT_GRID
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=10, default_factory=dict)]
    token: TokenWanted | None = None
    event_types: tuple[EventType, ...] = ()
    batch_size: Annotated[int, Field(ge=1, le=5_000)] = 1
    parallel: Annotated[int, Field(ge=1, le=64)] = 8
    ca_file: str | None = None
    answer_seconds: Annotated[float, Field(gt=0, le=30)] = 30.0
    attempts: Annotated[int, Field(ge=1, le=30)] = 30
    wait_scale: Annotated[float, Field(ge=0, le=1)] = 1.0

    @field_validator("endpoint")
    @classmethod
    def _reaches_no_further_than_it_may(cls, endpoint: str) -> str:
        """Plain http goes no further than this machine."""
        parts = urlsplit(endpoint)
        if parts.scheme == "https" and parts.hostname and parts.username is None:
            return endpoint
        if parts.scheme != "http" or parts.username is not None or not _is_loopback(parts.hostname or ""):
            raise ValueError("must be https://HOST..., or http:// on loopback")
        return endpoint

    @model_validator(mode="after")
    def _names_one_authorization(self) -> "CreateSubscription":
        if self.token is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("a token and an Authorization header exclude each other")
        return self

    @model_validator(mode="after")
    def _fits_a_queue(self) -> "CreateSubscription":
        plain = self.batch_size == 1 and not self.headers and self.endpoint.startswith("https://")
        if self.endpoint_type is EndpointType.QUEUE and not plain:
            raise ValueError("a queue is https://, takes events one by one, and no headers")
        return self

    def subscription(self, tenant: str) -> Subscription:
        """The subscription, whose token comes from `tenant`; WorldError when the CA file cannot be used."""
        token = self.token
        if self.endpoint_type is EndpointType.QUEUE and token is None:
            token = TokenWanted(audience=AUDIENCE)
        return Subscription(
            name=self.name,
            endpoint=self.endpoint,
            endpoint_type=self.endpoint_type,
            topic=self.topic,
            schema=self.schema_,
            headers=self.headers,
            token=None if token is None else token.of(tenant),
            event_types=frozenset(self.event_types),
            batch_size=self.batch_size,
            parallel=self.parallel,
            tls=None if self.ca_file is None else _context(self.ca_file),
            pace=Pace(self.answer_seconds, self.attempts, self.wait_scale),
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _context(ca_file: str) -> ssl.SSLContext:
    try:
        return trusting_context(Path(ca_file))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WorldError(
            f"the CA file {ca_file} cannot be used: {reason}", "give a file with PEM certificates"
        ) from None
