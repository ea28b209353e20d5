"""What can be written in a setting: durations, addresses, URLs. Each refusal says how to write it."""

import re
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from byokd.settings.connecting import MOST_PREFIX_CHARS

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min|h|d)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_HOST = r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_ON_HOSTS = rf"{_HOST}(?:,{_HOST})*/[^/?\s]+"
_ON_SOCKET = r"/[^/?\s]+\?host=/[^?&,\s]+(?:&port=\d{1,5})?"
_POSTGRESQL_URL = re.compile(rf"postgresql://(?:[^/@:\s]+@)?(?:{_ON_HOSTS}|{_ON_SOCKET})", re.ASCII)
_NAMESERVER = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:]+)\](?=:|$)|(?P<any>[0-9.]+(?=:|$)|[0-9A-Fa-f:]+$))(?::(?P<port>\d{1,5}))?", re.ASCII
)
_MQTT_URL = re.compile(r"mqtts?://(?P<host>[^/@:?#%\[\]\\\s\x00-\x20\x7f]+)(?::(?P<port>\d{1,5}))?", re.ASCII)

MOST_DURATION = timedelta(days=3650)
"""Ten years: beyond any use, and well inside what dates and timers can hold."""


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('not a duration: write a number and a unit, such as "500 ms", "60 s", "15 min", "1 h"')
    seconds = float(match["number"]) * _UNITS[match["unit"]]
    if seconds > MOST_DURATION.total_seconds():
        raise ValueError(f'too long: a duration is at most "{MOST_DURATION.days} d"')
    return timedelta(seconds=seconds)


def _longer_than_nothing(value: object) -> timedelta:
    duration = _duration(value)
    if not duration and not isinstance(value, timedelta):
        raise ValueError("a duration must be longer than nothing")
    return duration


def _suffix(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:[.-][a-z0-9]+)+", value, re.ASCII):
        raise ValueError('not a host suffix: write it in lower case without a leading dot, such as "vault.azure.net"')
    return value


def _address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) >= 2**16:
        raise ValueError('not an address: write host:port, such as "127.0.0.1:8443"')
    return value


def _nameserver(value: str) -> str:
    match = _NAMESERVER.fullmatch(value)
    if match is None or not 0 < int(match["port"] or 53) < 2**16 or not _is_address(match["v6"] or match["any"]):
        raise ValueError(
            'not a name server: write an IP address, such as "10.0.0.53" or "fd00::53", or one with a port, such as '
            '"10.0.0.53:5353" or "[fd00::53]:5353"'
        )
    return value


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    """Whether the system can be asked for it: a label of 64 characters or none is an error before that."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def _topic_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+(?:/[a-z0-9_-]+)*", value, re.ASCII):
        raise ValueError('not a topic prefix: lower-case words separated by "/", such as "byokd/v1"')
    if len(value) > MOST_PREFIX_CHARS:
        raise ValueError(f"too long: a topic prefix has at most {MOST_PREFIX_CHARS} characters")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            'not a name: 1 to 63 lower-case letters, digits and hyphens, a letter or digit first, such as "platform-2"'
        )
    return value


def _guid(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", value.lower(), re.ASCII):
        raise ValueError('not a GUID: write it as Azure shows it, such as "0f8fad5b-d9cb-469f-a165-70867728950e"')
    return value.lower()


def _store_url(value: str) -> str:
    if re.fullmatch(r"postgres(ql)?://[^/@]*:[^/@]*@.*|.*[?&]password=.*", value, re.DOTALL):
        raise ValueError(
            "a password in the URL would show in lists and logs: write it into a file, and name that file in "
            "store.password_file"
        )
    if not re.fullmatch(r"sqlite:///.+", value) and _POSTGRESQL_URL.fullmatch(value) is None:
        raise ValueError(
            'not a database URL: write sqlite:/// and the path of a file, such as "sqlite:////var/lib/byokd/byokd.db" '
            "(four slashes for an absolute path), or postgresql://user@host:port/dbname, or "
            '"postgresql://user@/dbname?host=/run/postgresql" for a Unix socket; TLS is set by store.tls'
        )
    return value


def _mqtt_url(value: str) -> str:
    match = _MQTT_URL.fullmatch(value)
    if match is None or not 0 < int(match["port"] or 1) < 2**16 or not _is_host(match["host"]):
        raise ValueError(
            'not a broker URL: write mqtt://host:port, or mqtts://host:port for TLS, such as "mqtts://broker:8883"; '
            "name and password go into mqtt.username and mqtt.password_file"
        )
    return value


def _switch(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("not a switch: write true or false, without quotes")  # noqa: TRY004 - pydantic's way
    return value


Switch = Annotated[bool, BeforeValidator(_switch)]
"""Nothing else than the two: whoever writes "no" must not be taken for saying yes, nor the other way round."""

Duration = Annotated[timedelta, BeforeValidator(_longer_than_nothing)]
DurationOrNothing = Annotated[timedelta, BeforeValidator(_duration)]
Name = Annotated[str, AfterValidator(_name)]
Guid = Annotated[str, AfterValidator(_guid)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
MqttUrl = Annotated[str, AfterValidator(_mqtt_url)]
Suffix = Annotated[str, AfterValidator(_suffix)]
Address = Annotated[str, AfterValidator(_address)]
Nameserver = Annotated[str, AfterValidator(_nameserver)]
TopicPrefix = Annotated[str, AfterValidator(_topic_prefix)]


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not an absolute path: the service may start in any directory")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
