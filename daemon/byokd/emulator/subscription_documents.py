"""The JSON documents of the control API about event subscriptions. No header's value, no token, no query."""

from typing import TypedDict

from byokd.emulator.vocabulary import EventType, Schema, Topic


class TokenState(TypedDict):
    """What the token of a subscription's deliveries says; never the token."""

    tenant: str
    audience: str
    application: str
    version: int


class SubscriptionState(TypedDict):
    """One event subscription: the endpoint without its query, headers by their names, `waiting` events."""

    name: str
    endpoint: str
    topic: Topic
    schema: Schema
    headers: list[str]
    token: TokenState | None
    event_types: list[EventType]
    batch_size: int
    parallel: int
    answer_seconds: float
    attempts: int
    wait_scale: float
    waiting: int


class TokenOptions(TypedDict, total=False):
    """The Entra token of deliveries: `audience` must be given; `version` 1 says `appid`, 2 says `azp`."""

    audience: str
    tenant: str
    application: str
    version: int


class SubscriptionOptions(TypedDict, total=False):
    """What can be chosen for an event subscription."""

    endpoint_type: str
    topic: Topic | str
    schema: Schema | str
    headers: dict[str, str]
    token: TokenOptions
    event_types: list[str]
    batch_size: int
    parallel: int
    ca_file: str
    answer_seconds: float
    attempts: int
    wait_scale: float
