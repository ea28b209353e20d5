"""What systemd is told, heard on a real socket."""

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from byokd.adapters.systemd.notifier import SystemdNotifier


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Where to tell, as systemd writes it, and a socket that hears it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@byokd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(name.replace("@", "\0"))
        ear.settimeout(5)
        yield name, ear


def test_each_call_is_one_datagram(heard: tuple[str, socket.socket]) -> None:
    address, ear = heard
    told = SystemdNotifier({"NOTIFY_SOCKET": address})
    told.status("one\nsentence")
    assert ear.recv(999) == b"STATUS=one sentence"
    told.ready()
    assert ear.recv(999) == b"READY=1"
    told.reloading()
    assert ear.recv(999).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    told.stopping()
    assert ear.recv(999) == b"STOPPING=1"


def test_a_sign_of_life_asks_for_more_time_until_it_is_ready(heard: tuple[str, socket.socket]) -> None:
    address, ear = heard
    told = SystemdNotifier({"NOTIFY_SOCKET": address})
    told.alive()
    assert ear.recv(999) == b"WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000"
    told.ready()
    ear.recv(999)
    told.alive()
    assert ear.recv(999) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "3000000"}, timedelta(seconds=3)),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, timedelta(seconds=3)),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_when_it_is_meant_for_us(
    environment: dict[str, str], interval: timedelta | None
) -> None:
    assert SystemdNotifier({"NOTIFY_SOCKET": "/run/x", **environment}).watchdog_interval == interval
    assert SystemdNotifier(environment).watchdog_interval is None


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_a_service_manager_nothing_is_said(address: str) -> None:
    told = SystemdNotifier({"NOTIFY_SOCKET": address})
    with structlog.testing.capture_logs() as logs:
        for say in (told.ready, told.alive, told.reloading, told.stopping):
            say()
    assert logs == []


def test_a_service_manager_that_does_not_hear_is_named_once(tmp_path: Path) -> None:
    told = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with structlog.testing.capture_logs() as logs:
        told.ready()
        told.alive()
    assert [log["event"] for log in logs] == ["service-manager-unreachable"]
