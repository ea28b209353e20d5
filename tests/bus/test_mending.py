"""Trouble with a broker's credentials and certificates: named, everything kept, and delivered once it is mended.

The publisher is the same all the while: nothing of byokd is started again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bus.support import commit, left, publisher, row, running
from byokd.adapters.sql import SqlStore
from parts.certificates import ServerFiles, issue, server_files
from parts.mosquitto import Mosquitto, mosquitto, password_file
from parts.waiting import until

pytestmark = pytest.mark.real("mosquitto")

SOON = timedelta(seconds=15)
DAY = timedelta(days=1)
EXPIRED = timedelta(minutes=-1)


@dataclass(frozen=True)
class Trouble:
    """A broker that byokd cannot use, the words for it, and what mends it."""

    lines: tuple[str, ...]
    settings: dict[str, object]
    words: str
    mend: Callable[[Mosquitto], None]


async def wrong_password(directory: Path) -> Trouble:
    passwords = await password_file(directory, byokd="correct horse")
    secret = directory / "secret"
    secret.write_text("battery staple\n")
    return Trouble(
        ("listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}"),
        {"username": "byokd", "password_file": secret},
        "the broker refused the connection: Not authorized",
        lambda _: secret.write_text("correct horse\n") and None,
    )


async def other_file(directory: Path) -> Trouble:
    trouble = await wrong_password(directory)
    (directory / "secret").write_bytes(b"battery staple " * 5_000)
    return replace(trouble, words="it is longer than the 65535 bytes that MQTT has room for: no password")


async def other_encoding(directory: Path) -> Trouble:
    trouble = await wrong_password(directory)
    (directory / "secret").write_bytes("battery staple".encode("utf-16-le"))
    return replace(trouble, words="it has a NUL character in it: no password")


def tls(files: ServerFiles) -> tuple[str, ...]:
    return ("listener {port} 127.0.0.1", f"certfile {files.certificate}", f"keyfile {files.key}")


async def expired_server_certificate(directory: Path) -> Trouble:
    files = server_files(directory / "server")
    issue(files, lasts=EXPIRED)

    def mend(broker: Mosquitto) -> None:
        issue(files, lasts=DAY)
        broker.reload()

    return Trouble(tls(files), {"scheme": "mqtts", "ca_file": files.authority}, "certificate has expired", mend)


async def expired_client_certificate(directory: Path) -> Trouble:
    files, ours = server_files(directory / "server"), directory / "ours.pem"

    def show(lasts: timedelta) -> None:
        mine = ServerFiles(files.authority, directory / "client.pem", directory / "client.key")
        issue(mine, lasts=lasts)
        beside = ours.with_suffix(".new")
        beside.write_bytes(mine.certificate.read_bytes() + mine.key.read_bytes())
        beside.replace(ours)

    show(EXPIRED)
    return Trouble(
        (*tls(files), f"cafile {files.authority}", "require_certificate true", "use_identity_as_username true"),
        {"scheme": "mqtts", "ca_file": files.authority, "certificate_file": ours},
        "our certificate (certificate_file) has expired",
        lambda _: show(DAY),
    )


@pytest.mark.parametrize(
    "made", [wrong_password, other_file, other_encoding, expired_server_certificate, expired_client_certificate]
)
async def test_it_is_named_and_kept_and_delivered_after_mending(
    tmp_path: Path, store: SqlStore, made: Callable[[Path], object]
) -> None:
    trouble = await made(tmp_path)  # type: ignore[misc]
    assert isinstance(trouble, Trouble)
    await commit(store, *(row(f"accounts/{name}", sequence=step) for step in range(3) for name in "abc"))
    kept = await left(store)
    async with mosquitto(tmp_path / "mosquitto", *trouble.lines) as broker:
        sending = publisher(store, broker.address, **trouble.settings)
        with capture_logs() as logs:
            async with running(sending):
                await until(lambda: trouble.words in str(sending.status.link.problem))
                assert await left(store) == kept
                trouble.mend(broker)
                assert await sending.drain(within=SOON)
    assert await left(store) == []
    (lost,) = (log for log in logs if log["event"] == "bus-lost")
    assert trouble.words in lost["problem"]
    assert lost["log_level"] == "warning"
    assert lost["hint"]
    assert "staple" not in str(logs)


def wrong_again(trouble: Trouble) -> Callable[[], object]:
    secret = Path(str(trouble.settings["password_file"]))
    wrong = secret.read_text()
    return lambda: secret.write_text(wrong)


@pytest.mark.parametrize("made", [wrong_password, other_file])
async def test_a_password_that_went_wrong_during_an_outage_is_named(
    tmp_path: Path, store: SqlStore, made: Callable[[Path], Awaitable[Trouble]]
) -> None:
    trouble = await made(tmp_path)
    spoil = wrong_again(trouble)
    async with mosquitto(tmp_path / "mosquitto", *trouble.lines) as broker:
        trouble.mend(broker)
        sending = publisher(store, broker.address, **trouble.settings)
        with capture_logs() as logs:
            async with running(sending):
                await until(lambda: sending.status.link.connected)
                spoil()
                await broker.kill()
                await until(lambda: not sending.status.link.connected)
                await broker.start()
                await until(lambda: trouble.words in str(sending.status.link.problem))
    told = [log["problem"] for log in logs if log["event"] == "bus-lost"]
    assert trouble.words in str(told)
    assert len(told) == len(set(told)) <= 4
