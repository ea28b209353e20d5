"""Where hints come from: deliveries of Event Grid, by webhook or by Storage Queue."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from byokd.settings.group import Group
from byokd.settings.identities import Authority, IdentitySettings
from byokd.settings.kinds import AbsolutePath, Address, Duration, Guid, Name, Switch

_PATTERN = re.compile(r"(?:\*|[a-z0-9-]{3,24})(?:\.[a-z0-9-]+)+", re.ASCII)
_HEADER = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_TAKEN_HEADERS = re.compile(
    r"authorization|accept.*|aeg-.*|ce-.*|webhook-.*|content-.*|cookie|connection|date|expect|forwarded|host|keep-alive"
    r"|origin|proxy-.*|referer|te|trailer|transfer-encoding|upgrade|user-agent|via|x-forwarded-.*",
    re.ASCII,
)
"""What deliveries carry for HTTP, for proxies or for Event Grid itself, and cannot carry a secret."""

_ORIGIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*", re.ASCII)
_QUEUE_NAME = r"(?=[a-z0-9-]{3,63}(?![^/]))[a-z0-9]+(?:-[a-z0-9]+)*"
_QUEUE = re.compile(rf"https://[a-z0-9.-]+(?::\d{{1,5}})?(?:/[a-z0-9]{{3,24}})?/{_QUEUE_NAME}", re.ASCII)

_NO_QUEUES = re.compile(r"https://[^/:]*(?:\.(?:blob|table|file|dfs|web|vault)\.[^/:]*|\.)(?::\d+)?/", re.ASCII)
"""Hosts of other services of Azure, and one with a dot at its end: mistyped, and the identity's token goes there."""

_OF_WEBHOOKS: Final = ("secret_file", "secret_header", "secret_in_query", "authority", "audience", "application")
_OF_QUEUES: Final = (
    *("queue", "identity", "poison_queue", "visibility_timeout", "poll_interval", "batch", "max_tries"),
)
"""What belongs to one kind alone."""


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        raise ValueError(
            'not the host of a vault: write it in lower case, such as "contoso-keys.vault.azure.net", or '
            '"*.vault.azure.net" for all of a cloud'
        )
    return value


def _header(value: str) -> str:
    if not _HEADER.fullmatch(value) or _TAKEN_HEADERS.fullmatch(value):
        raise ValueError(
            'not a header for a secret: a name in lower case that nothing else uses, such as "x-byokd-secret"'
        )
    return value


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError('not an origin: a host name in lower case, such as "eventgrid.azure.net"')
    return value


def _queue(value: str) -> str:
    if not _QUEUE.fullmatch(value) or _NO_QUEUES.match(value):
        raise ValueError(
            "not the address of a queue: write https://, the storage account's host and the name of the queue, such as "
            '"https://contoso.queue.core.windows.net/keyvault-events"; no query: byokd shows a token, no signature'
        )
    return value


def _queue_name(value: str) -> str:
    if not re.fullmatch(_QUEUE_NAME, value, re.ASCII):
        raise ValueError("not the name of a queue: 3 to 63 lower-case letters, digits and single hyphens")
    return value


def _whole_seconds(value: timedelta) -> timedelta:
    if value.microseconds or value > timedelta(days=7):
        raise ValueError('not a visibility time-out: whole seconds, at most "7 d"')
    return value


class SourceSettings(Group):
    """One who may deliver.

    By webhook: known by a secret that its deliveries carry, or by a token of Entra ID, or by both. By queue: whoever
    may write to the queue.
    """

    kind: Literal["webhook", "queue"] = "webhook"
    """`webhook`: Event Grid calls byokd, at `event_grid.listen`. `queue`: Event Grid writes to a Storage Queue, which
    byokd reads: nothing has to reach byokd from outside."""

    secret_file: AbsolutePath | None = None
    """`webhook`: file with the secret that deliveries carry in a header: 16 characters or more; a trailing line break
    is dropped. Read at the start and at a reload."""

    secret_header: Annotated[str, AfterValidator(_header)] = "x-byokd-secret"  # noqa: S105 - a name
    """The header that carries it: a delivery property of the event subscription."""

    secret_in_query: Switch = False
    """Take the secret also from `?code=` of the address. Proxies in between may log addresses: prefer a header."""

    tenant: Guid | None = None
    """`webhook`: tenant whose Entra ID must have signed the deliveries' token; with `audience` and `application`.
    `queue`: tenant of the storage account, for identities other than managed ones, which have one of their own."""

    authority: Authority = "login.microsoftonline.com"
    """Entra ID's host, that of the tenant's cloud: public, US government or China."""

    audience: str | None = None
    """Whom the token must be for: the application id or its URI, as the event subscription names it."""

    application: Guid | None = None
    """Application that the token must have been given to: Event Grid's own in that tenant."""

    vaults: Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], Field(min_length=1)]
    """Vaults that this source may hint at: hosts, or `*.vault.azure.net` for all of a cloud."""

    hints_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """What it may make byokd look at, and as much at once; beyond it deliveries are refused with 429, and messages left
    in the queue, and come again. Ten a second: a platform's busiest minute, and nothing for the daemon."""

    queue: Annotated[str, AfterValidator(_queue)] | None = None
    """`queue` only: its address, such as `https://contoso.queue.core.windows.net/keyvault-events`. The identity's token
    goes to this host, over verified TLS, and nowhere else."""

    identity: Name | None = None
    """`queue` only: the identity that reads it, one of `[identities.NAME]`. It has to be *Storage Queue Data Message
    Processor* of the queue."""

    poison_queue: Annotated[str, AfterValidator(_queue_name)] | None = None
    """`queue` only: name of a queue of the same account, to which messages that cannot be read are moved. The identity
    has to be *Storage Queue Data Message Sender* of it. None: they are dropped; the log names them in any case."""

    visibility_timeout: Annotated[Duration, AfterValidator(_whole_seconds)] = timedelta(seconds=60)
    """`queue` only: how soon a message that was received and not deleted comes again. Longer than dealing with a batch
    takes; no longer than a check interval, or polling is quicker than what was left for a while."""

    poll_interval: Duration = timedelta(seconds=2)
    """`queue` only: between two looks at an empty queue, which has no way to wait. So much later than by webhook a hint
    comes at most; 43,000 calls a day, a fraction of a cent."""

    batch: Annotated[int, Field(ge=1, le=32)] = 16
    """`queue` only: messages received at once; Azure gives 32 at most. Each has 64 KiB at most, so this bounds memory,
    and how many wait for `visibility_timeout` when byokd is killed."""

    max_tries: Annotated[int, Field(ge=1, le=1_000)] = 5
    """`queue` only: how often a message that cannot be read is tried before it is poison, as with Azure Functions. A
    poison queue that fails is tried as often again. A message that can be read is never poison, however often it was
    left because of `hints_per_minute`."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        defaults = type(self).model_fields
        others = _OF_QUEUES if self.kind == "webhook" else _OF_WEBHOOKS
        wrong = [
            f"{name} does not belong to kind {self.kind}"
            for name in others
            if getattr(self, name) != defaults[name].default
        ]
        if self.kind == "queue":
            wrong += [f"{name} is missing" for name in ("queue", "identity") if getattr(self, name) is None]
            if (
                self.poison_queue is not None
                and self.queue is not None
                and self.queue.endswith(f"/{self.poison_queue}")
            ):
                wrong.append("poison_queue is the queue itself")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _is_known_by_something(self) -> Self:
        if self.kind == "queue":
            return self
        named = [self.tenant, self.audience, self.application]
        if any(named) and not all(named):
            raise ValueError("tenant, audience and application belong together")
        if self.secret_in_query and self.secret_file is None:
            raise ValueError("secret_in_query has no secret to look for: it needs secret_file")
        if self.secret_file is None and self.tenant is None:
            raise ValueError("needs secret_file, or tenant, audience and application: whoever knocks could send hints")
        return self


class EventGridSettings(Group):
    """Deliveries of Event Grid. Without a source of kind webhook nothing listens."""

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
    """Deliveries read at once, each up to the longest; more are refused with 503, and come again. Where there are
    several sources, one takes at most half of the places."""

    sources: Mapping[Name, SourceSettings] = Field(default_factory=dict)
    """Who may deliver, by name, such as `[event_grid.sources.contoso]`."""

    @property
    def webhooks(self) -> Mapping[str, SourceSettings]:
        """Those who deliver by webhook."""
        return {name: one for name, one in self.sources.items() if one.kind == "webhook"}

    @property
    def queues(self) -> Mapping[str, SourceSettings]:
        """Those who deliver by queue."""
        return {name: one for name, one in self.sources.items() if one.kind == "queue"}


def flaw_of_queues(queues: Mapping[str, SourceSettings], identities: Mapping[str, IdentitySettings]) -> str | None:
    """Say which queues cannot be read: twice named, by no identity, or by one that needs to be told a tenant."""
    wrong = []
    readers: dict[str | None, str] = {}
    for name, source in queues.items():
        if (other := readers.setdefault(source.queue, name)) != name:
            wrong.append(
                f"[event_grid.sources.{name}] queue: {other} reads it already, and each message comes to one of them: "
                "let one source have the vaults of both"
            )
        identity = identities.get(source.identity or "")
        if identity is None:
            there = ", ".join(identities) or "none"
            wrong.append(f"[event_grid.sources.{name}] identity: there is no identity {source.identity}: {there}")
        elif identity.kind != "managed-identity" and (source.tenant or identity.tenant) is None:
            wrong.append(
                f"[event_grid.sources.{name}] tenant is missing: that of the storage account, as the identity "
                f"{source.identity} is of kind {identity.kind}"
            )
    return "; ".join(wrong) or None
