"""Event subscriptions: where events of a vault are delivered to, and how. State only."""

import ssl
from dataclasses import dataclass, field
from typing import Final

from byokd.emulator.vocabulary import EndpointType, EventType, Schema, Topic

EVENT_GRID_APPLICATION: Final = "4962773b-9cdb-44cf-a8bf-237846a00ab7"
"""The application id of Event Grid itself, who delivers unless told otherwise (documentation)."""


@dataclass(frozen=True, slots=True)
class DeliveryToken:
    """The Entra token that goes with every request: issued by `tenant` for `audience` to `application`.

    `version` 1 names the application in `appid`, 2 in `azp`.
    """

    tenant: str
    audience: str
    application: str = EVENT_GRID_APPLICATION
    version: int = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient Event Grid is with the endpoint.

    An answer is awaited for `answer_seconds`; there are `attempts` at most; every wait between two attempts is
    multiplied by `scale`, so that a test need not wait for minutes.
    """

    answer_seconds: float = 30.0
    attempts: int = 30
    scale: float = 1.0


@dataclass(slots=True)
class Subscription:
    """One subscription to the events of one vault.

    `headers` and whatever the endpoint has in its query are secrets. `batch_size` 1 means that events come one by
    one. `tls` tells whom to trust at an https endpoint. `parallel` is how many requests are under way at once,
    `waiting` how many events are not delivered yet.
    """

    name: str
    endpoint: str = field(repr=False)
    topic: Topic = Topic.KEY_VAULT
    schema: Schema = Schema.EVENT_GRID
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    token: DeliveryToken | None = None
    event_types: frozenset[EventType] = frozenset()
    batch_size: int = 1
    parallel: int = 8
    tls: ssl.SSLContext | None = None
    pace: Pace = field(default_factory=Pace)
    endpoint_type: EndpointType = EndpointType.WEBHOOK
    waiting: int = 0

    def wants(self, kind: EventType) -> bool:
        """Whether events of that type are delivered: those of its topic, and of these the ones it names, if any."""
        of_resources = kind.startswith("Microsoft.Resources.")
        return of_resources == (self.topic is Topic.RESOURCES) and (not self.event_types or kind in self.event_types)

    @property
    def shown_endpoint(self) -> str:
        """The endpoint without its query, as Event Grid shows it to those who list subscriptions."""
        return self.endpoint.partition("?")[0]
