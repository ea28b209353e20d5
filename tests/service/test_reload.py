"""`byokd reload`, SIGHUP and what systemd hears of it, on a real process."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from byokd.demo.processes import byokd_command, child
from byokd.demo.stage import Stage
from parts.waiting import eventually, until
from service.support import apply, byokd, customer, manifest, plain_environment
from service.test_process import settings, status

CHECKS = '[checks]\ninterval = "{interval}"\n'


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.setblocking(False)  # noqa: FBT003 - the socket's own
        yield bound


def said(ear: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += ear.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


def logged(path: Path, event: str) -> list[dict[str, object]]:
    return [line for line in map(json.loads, path.read_text().splitlines()) if line["event"] == event]


async def test_a_reload_is_taken_or_refused_whole_and_the_service_manager_hears_of_it(
    tmp_path: Path, ear: socket.socket
) -> None:
    path, log, socket_path = settings(tmp_path), tmp_path / "daemon.log", tmp_path / "api.sock"
    good = path.read_text()
    environment = plain_environment() | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    asking = plain_environment() | {"BYOKD_SOCKET": str(socket_path)}
    command = byokd_command("run", "--settings", str(path))
    heard: list[str] = []

    def hears(line: str) -> bool:
        heard.extend(said(ear))
        return line in heard

    async with child(command, log=log, environment=environment) as process:
        await until(lambda: hears("READY=1"))
        before_ready = heard[: heard.index("READY=1")]
        assert "STATUS=starting: opening the store" in before_ready
        assert "EXTEND_TIMEOUT_USEC=30000000" in before_ready
        heard.clear()
        await until(lambda: hears("WATCHDOG=1"))

        path.write_text(good + CHECKS.format(interval="2 s") + '[service_keys]\ndirectory = "/elsewhere"\n')
        duplicate = await byokd("reload", environment=asking)
        assert duplicate.code == 1
        assert "is not TOML" in duplicate.err
        path.write_text(good.replace("127.0.0.1:0", "127.0.0.1:9") + CHECKS.format(interval="2 s"))
        restart = await byokd("reload", environment=asking)
        assert (restart.code, restart.out) == (1, "")
        assert restart.err.startswith(
            "error: http.listen: needs a restart to change\nerror: nothing was changed: 1 reason"
        )
        assert not hears("RELOADING=1")

        path.write_text(good + CHECKS.format(interval="2 s"))
        taken = await byokd("reload", environment=asking)
        assert (taken.code, taken.out, taken.err) == (0, "reloaded: checks.interval\n", "")
        await until(lambda: hears("RELOADING=1"))
        await until(lambda: "READY=1" in heard[heard.index("RELOADING=1") :] or hears(""))

        process.send_signal(signal.SIGHUP)
        await until(lambda: len(logged(log, "reloaded")) == 2)
        assert [line["changed"] for line in logged(log, "reloaded")] == [["checks.interval"], []]
        assert len(logged(log, "reload-refused")) == 2
        process.terminate()
        assert await process.wait() == 0
        assert hears("STOPPING=1")


async def test_accounts_and_pages_go_on_with_the_new_settings(stage: Stage) -> None:
    path = stage.directory / "byokd.toml"
    await apply(stage, manifest(stage, await customer(stage)))
    again = path.read_text().replace('interval = "1 s"', 'interval = "2 s"')
    path.write_text(
        again.replace("[http]", '[http]\nallowed_hosts = ["byokd.example"]').replace(
            "[service]", '[service]\nlog_level = "error"'
        )
    )
    assert (await byokd("reload", "--json", environment=stage.environment)).code == 0

    async def ready() -> bool:
        return bool((await status(stage.directory))["ready"])

    await eventually(ready)
    checked = await byokd("check", "contoso", environment=stage.environment)
    assert checked.out.startswith("Usable: ")
    vault = await stage.control.create_vault("later", purge_protection=True)
    await stage.control.create_key("later", "media", size=2048)
    await stage.control.grant("later")
    later = manifest(stage, vault["tenant"], key="https://later.vault.azure.net/keys/media", name="later")
    assert (await apply(stage, later)).out == "created    later\n"
    await stage.control.disable_key("later", "media")
    assert await stage.watcher.until(lambda: stage.watcher.state("later").get("state") == "Inaccessible", seconds=12)
    lines = (stage.directory / "daemon.log").read_text().splitlines()
    assert "started" in lines[1]
    assert "later" not in "".join(lines), "log_level is error now"


async def test_a_file_that_the_settings_name_is_looked_into_again(stage: Stage) -> None:
    stage.ca.rename(stage.ca.with_suffix(".away"))
    refused = await byokd("reload", environment=stage.environment)
    assert refused.code == 1
    assert "[network] ca_file: cannot be read: No such file" in refused.err
    stage.ca.with_suffix(".away").rename(stage.ca)
    assert (await byokd("reload", environment=stage.environment)).code == 0


async def test_an_identity_that_accounts_use_is_not_taken_away(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    path = stage.directory / "byokd.toml"
    good = path.read_text()
    path.write_text(good.replace("[identities.platform]", "[identities.another]"))
    refused = await byokd("reload", environment=stage.environment)
    assert refused.code == 1
    assert "identities.platform: accounts use it" in refused.err
    path.write_text(good + '\n[identities.another]\nclient_id = "0f8fad5b-d9cb-469f-a165-70867728950e"\n')
    assert (await byokd("reload", environment=stage.environment)).code == 0
    path.write_text(good)
    assert (await byokd("reload", environment=stage.environment)).code == 0, "nobody uses that one"


async def test_what_the_bus_could_not_be_told_is_refused_and_the_daemon_goes_on(tmp_path: Path) -> None:
    path, password = settings(tmp_path), tmp_path / "password"
    good = path.read_text().replace("[mqtt]\n", f'[mqtt]\nusername = "byokd"\npassword_file = "{password}"\n')
    password.write_text("secret\n")
    path.write_text(good)
    asking = plain_environment() | {"BYOKD_SOCKET": str(tmp_path / "api.sock")}
    command = byokd_command("run", "--settings", str(path))
    async with child(command, log=tmp_path / "daemon.log", environment=plain_environment()) as process:

        async def taken() -> bool:
            return (await byokd("reload", environment=asking)).code == 0

        await eventually(taken)
        path.write_text(good.replace("[mqtt]\n", '[mqtt]\nkeepalive = "1 d"\n'))
        password.write_text("secret" * 20_000)
        refused = await byokd("reload", environment=asking)
        assert refused.code == 1
        assert "[mqtt] keepalive: too long" in refused.err
        assert "[mqtt] password_file: is longer than the 65535 bytes" in refused.err
        assert "nothing was changed: 2 reasons" in refused.err
        path.write_text(good)
        password.write_text("secret\n")
        assert await taken()
        process.terminate()
        assert await process.wait() == 0
