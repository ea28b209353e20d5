"""The `ServiceManager` port on systemd's notification protocol, sd_notify(3).

Own code: the protocol is a few lines of text in one datagram. systemd's own Python binding wants a C library and a
compiler, and the packages in pure Python are this file again.
"""

import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta

import structlog

MORE_TIME = timedelta(seconds=30)
"""How much longer a start may take, said again with each sign of life: it may wait for the store, but not hang."""

_SEND_SECONDS = 0.5
"""systemd reads at once; where it does not, the event loop must not wait for it."""

_log = structlog.get_logger()


class SystemdNotifier:
    """Tells systemd, where it started this process; otherwise says nothing."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Find out from $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID whom to tell, and how often."""
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._interval = None if self._address is None else _interval(environment)
        self._starting = True
        self._silenced = False

    @property
    def watchdog_interval(self) -> timedelta | None:
        """How often `alive` must be said; None: never."""
        return self._interval

    def status(self, sentence: str) -> None:
        """Show one sentence in `systemctl status`."""
        self._send(f"STATUS={' '.join(sentence.split())}")

    def alive(self) -> None:
        """Tell that the event loop turns."""
        more = [f"EXTEND_TIMEOUT_USEC={_microseconds(MORE_TIME)}"] if self._starting else []
        self._send("WATCHDOG=1", *more)

    def ready(self) -> None:
        """Tell that the start, or a reload, is done."""
        self._starting = False
        self._send("READY=1")

    def reloading(self) -> None:
        """Tell that a reload has begun."""
        # The manager's own clock: by this it tells answers to two requests apart.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Tell that the daemon ends."""
        self._starting = False
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(_SEND_SECONDS)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._silenced:
                _log.warning("service-manager-unreachable", why=error.strerror or type(error).__name__)
            self._silenced = True
        else:
            self._silenced = False


def _address(place: str) -> str | None:
    """Give the address of the socket, as Python writes it: a path, or a name in Linux's abstract namespace ("@...")."""
    if place.startswith("/"):
        return place
    return f"\0{place[1:]}" if place.startswith("@") else None


def _interval(environment: Mapping[str, str]) -> timedelta | None:
    microseconds, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if process not in {"", str(os.getpid())} or not microseconds.isdecimal():
        return None
    return timedelta(microseconds=int(microseconds)) or None


def _microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
