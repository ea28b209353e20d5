"""The message bus."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from byokd.settings import connecting
from byokd.settings.group import Group
from byokd.settings.kinds import AbsolutePath, Duration, MqttUrl, TopicPrefix


class MqttSettings(Group):
    """The message bus: MQTT 5, QoS 1."""

    url: MqttUrl = "mqtt://127.0.0.1:1883"
    """`mqtt://host:port`, or `mqtts://host:port` for TLS. Without a port: 1883, or 8883 with TLS."""

    username: Annotated[str, AfterValidator(connecting.username)] | None = None
    """User name, when the broker wants one."""

    password_file: AbsolutePath | None = None
    """File that holds the password, as UTF-8; a trailing line break is dropped. Needs `username`. Checked
    before the start, and read anew for every connection."""

    ca_file: AbsolutePath | None = None
    """PEM file of the authorities that may vouch for the broker, instead of the system's. As the next two only with
    `mqtts://`. Checked before the start."""

    certificate_file: AbsolutePath | None = None
    """PEM file with the certificate, and its key, that byokd shows to a broker that wants one. Read anew for every
    connection, so that it can be renewed; checked before the start."""

    alpn: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")] | None = None
    """Protocol that TLS names beforehand, for brokers that share port 443 with others: AWS IoT Core wants
    `x-amzn-mqtt-ca` there. Most want none."""

    topic_prefix: TopicPrefix = "byokd/v1"
    """First levels of every topic, in lower case; 128 characters at most."""

    connect_timeout: Duration = timedelta(seconds=10)
    """For TCP, TLS and CONNACK together."""

    keepalive: Annotated[Duration, AfterValidator(connecting.keepalive)] = timedelta(seconds=15)
    """A connection without traffic is probed after this long, and given up after at most twice it. MQTT has room for
    `18 h`."""

    publish_timeout: Duration = timedelta(seconds=15)
    """For one acknowledgement; then the connection is given up."""

    marker_timeout: Duration = timedelta(seconds=2)
    """How long after each connect a broker may take to hand back our own message on `service/marker`, from its
    acknowledgement on; events wait for it. Only the way back is left by then. A broker whose access list lets us write
    and not read never hands it back: that costs this time once, and from then on events do not wait."""

    window: Annotated[int, Field(ge=1, le=1000)] = 50
    """Messages in flight. More is hardly faster (20 to 100 were measured alike), and is sent again after a loss."""

    reconnect_first: Duration = timedelta(seconds=0.5)
    """First wait after a lost connection; it doubles, with jitter."""

    reconnect_most: Duration = timedelta(seconds=30)
    """Longest wait between attempts to connect."""

    outbox_retention: Duration = timedelta(hours=1)
    """Events younger than this are all sent again where the broker has lost them; of older ones only the last of each
    account, which carries its whole state. At most `store.history_retention`."""

    message_expiry: Duration | None = None
    """How long brokers keep events for subscribers that are away; without it, as long as they like. Retained states
    never expire: they are true as long as nothing newer comes."""

    backlog_bound: Annotated[int, Field(ge=1)] = 10_000
    """Unpublished events beyond which the service is not ready."""

    backlog_age_bound: Duration = timedelta(minutes=5)
    """Age of the oldest unpublished event beyond which the service is not ready."""

    @model_validator(mode="after")
    def _related(self) -> Self:
        wrong = []
        if self.url.startswith("mqtt://"):
            wrong = [
                f"{name} is of TLS, and url is without: write mqtts://"
                for name in ("ca_file", "certificate_file", "alpn")
                if getattr(self, name) is not None
            ]
        if self.password_file is not None and self.username is None:
            wrong.append("password_file needs username: without one no password is sent")
        if self.reconnect_most < self.reconnect_first:
            wrong.append("reconnect_most is shorter than reconnect_first")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self
