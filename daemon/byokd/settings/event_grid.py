"""Where hints come from: deliveries of Event Grid."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from byokd.settings.group import Group
from byokd.settings.identities import Authority
from byokd.settings.kinds import AbsolutePath, Address, Duration, Guid, Name, Switch

_PATTERN = re.compile(r"(?:\*|[a-z0-9-]{3,24})(?:\.[a-z0-9-]+)+", re.ASCII)
_HEADER = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_ORIGIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*", re.ASCII)


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        raise ValueError(
            'not the host of a vault: write it in lower case, such as "contoso-keys.vault.azure.net", or '
            '"*.vault.azure.net" for all of a cloud'
        )
    return value


def _header(value: str) -> str:
    if not _HEADER.fullmatch(value) or value == "authorization":
        raise ValueError('not a header for a secret: a name in lower case, such as "x-byokd-secret"')
    return value


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError('not an origin: a host name in lower case, such as "eventgrid.azure.net"')
    return value


class SourceSettings(Group):
    """One who may deliver: known by a secret that its deliveries carry, or by a token of Entra ID, or by both."""

    secret_file: AbsolutePath | None = None
    """File with the secret that deliveries carry in a header: 16 characters or more; a trailing line break is dropped.
    Read at the start and at a reload."""

    secret_header: Annotated[str, AfterValidator(_header)] = "x-byokd-secret"  # noqa: S105 - a name
    """The header that carries it: a delivery property of the event subscription."""

    secret_in_query: Switch = False
    """Take the secret also from `?code=` of the address. Proxies in between may log addresses: prefer a header."""

    tenant: Guid | None = None
    """Tenant whose Entra ID must have signed the deliveries' token; with `audience` and `application`."""

    authority: Authority = "login.microsoftonline.com"
    """Entra ID's host, that of the tenant's cloud: public, US government or China."""

    audience: str | None = None
    """Whom the token must be for: the application id or its URI, as the event subscription names it."""

    application: Guid | None = None
    """Application that the token must have been given to: Event Grid's own in that tenant."""

    vaults: Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], Field(min_length=1)]
    """Vaults that this source may hint at: hosts, or `*.vault.azure.net` for all of a cloud."""

    hints_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """What it may make byokd look at, and as much at once; beyond it deliveries are refused with 429, and come again.
    Ten a second: a platform's busiest minute, and nothing for the daemon."""

    @model_validator(mode="after")
    def _is_known_by_something(self) -> Self:
        named = [self.tenant, self.audience, self.application]
        if any(named) and not all(named):
            raise ValueError("tenant, audience and application belong together")
        if self.secret_file is None and self.tenant is None:
            raise ValueError("needs secret_file, or tenant, audience and application: whoever knocks could send hints")
        return self


class EventGridSettings(Group):
    """Deliveries of Event Grid by webhook. Without a source nothing listens."""

    listen: Address = "127.0.0.1:9471"
    """Address for `/events/keyvault`, apart from health and metrics: a proxy with TLS stands in front of it."""

    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ("eventgrid.azure.net",)
    """Who may ask, without a credential, whether we take events in the CloudEvents schema; it is told yes."""

    max_body_bytes: Annotated[int, Field(ge=1_024, le=16_777_216)] = 1_114_112
    """Longest delivery: Event Grid's are 1 MB at most, and a little."""

    waiting: Annotated[int, Field(ge=16, le=10_000)] = 256
    """Connections at once over which no whole request has come yet; beyond them who has waited longest has to go. Event
    Grid says what it has to say at once. As many again may have a request under way."""

    head_timeout: Duration = timedelta(seconds=10)
    """For the head of a delivery to come in, or what still comes after a refusal: then the connection is closed."""

    body_timeout: Duration = timedelta(seconds=10)
    """For a whole delivery to come in; Event Grid waits 30 s for the answer."""

    concurrency: Annotated[int, Field(ge=1, le=1_000)] = 16
    """Deliveries read at once, each up to the longest; more are refused with 503, and come again."""

    sources: Mapping[Name, SourceSettings] = Field(default_factory=dict)
    """Who may deliver, by name, such as `[event_grid.sources.contoso]`."""
