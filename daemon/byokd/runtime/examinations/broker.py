"""The bus: by what the running daemon says of it, or without one by a connection of our own."""

from collections.abc import Mapping, Sequence
from typing import Final

from byokd.ports import Bus, BusMessage, BusRefusedError, BusSession, BusUnavailableError
from byokd.ports.examining import DaemonReport
from byokd.runtime.envelope import trial_message
from byokd.runtime.findings import Finding, bad, ok, warn
from byokd.runtime.refusals import HINT

BROKER: Final = "broker"

_STREAMS: Final = (
    "accounts/00000000-0000-0000-0000-000000000000/byokd-doctor/byokddoctor",
    "keys/byokd-doctor/byokd-doctor",
    "service",
)
"""Like those that are really published to; no account or vault can have these names."""

_CONNECT_HINT: Final = (
    "see that the broker runs, and that url, username, password_file and ca_file under [mqtt] are right"
)


def examine_by_daemon(report: DaemonReport) -> Finding:
    """Take the word of the daemon: a second connection under its client id would end its own."""
    components = report.get("components")
    bus = components.get("bus") if isinstance(components, Mapping) else None
    presence = report.get("presence")
    if isinstance(bus, Mapping) and not bus.get("ok"):
        return bad(BROKER, f"the running daemon says: {bus.get('message')}", hint=str(bus.get("hint") or _CONNECT_HINT))
    if isinstance(presence, Mapping) and not presence.get("connected"):
        problem = presence.get("problem") or "not connected yet"
        return bad(BROKER, f"the running daemon's presence is not connected: {problem}", hint=_CONNECT_HINT)
    if bus is None:
        return ok(BROKER, "the running daemon is connected, and publishes once it has started")
    return ok(BROKER, "the running daemon is connected, and everything is taken that it publishes")


async def examine_by_trial(bus: Bus, *, prefix: str, name: str) -> Sequence[Finding]:
    """Connect as the daemon would, under another client id, and send what it would to topics like its own.

    Subscribers get trial messages, of a type that they ignore; nothing is retained.
    """
    try:
        async with bus.connect(name) as session:
            refused = [trouble for trouble in await _tried(session, prefix=prefix, name=name) if trouble]
            unread = await _marker_unread(session, prefix)
    except BusUnavailableError as error:
        return [bad(BROKER, str(error), hint=_CONNECT_HINT)]
    if refused:
        found = f"connected, but the broker refuses {'; '.join(refused)}"
        return [bad(BROKER, found, hint=HINT)]
    if unread is not None:
        found = f"what the broker loses would not be sent again: {prefix}/service/marker: {unread}"
        return [warn(BROKER, found, hint="let byokd read and write this topic in the broker's access control list")]
    return [ok(BROKER, f"connected; all topics below {prefix} are taken, and the marker can be read")]


async def _tried(session: BusSession, *, prefix: str, name: str) -> list[str | None]:
    topics = [f"{prefix}/{stream}/events" for stream in _STREAMS]
    topics += [f"{prefix}/{_STREAMS[0]}/state", f"{prefix}/daemons/{name}/status"]
    return [await _refusal(session, trial_message(topic, prefix=prefix, name=name)) for topic in topics]


async def _refusal(session: BusSession, message: BusMessage) -> str | None:
    try:
        await session.publish(message)
    except BusRefusedError as refusal:
        return f"{message.topic}: {refusal}"
    return None


async def _marker_unread(session: BusSession, prefix: str) -> str | None:
    try:
        await session.retained(f"{prefix}/service/marker")
    except BusRefusedError as refusal:
        return str(refusal)
    return None
