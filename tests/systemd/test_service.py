"""The unit under a real systemd, installed as an operator installs it. One machine is booted for all of it."""

import asyncio
import json
import re

import pytest

from parts.subscriber import subscriber
from systemd.conftest import ROOT, UNIT, Installed

pytestmark = [
    pytest.mark.real("systemd"),
    pytest.mark.real("iotcore"),
    pytest.mark.asyncio(loop_scope="module"),
]

STATUS = "byokd/v1/daemons/byokd/status"
STOP_SECONDS = 10
KINDS = ("audit", "storage", "system")

PROBE = """
for directory in / /etc /etc/byokd /usr /usr/local/lib /opt/byokd /home /root /srv /var /var/lib /var/log /run \\
    /proc/sys/kernel /sys/fs/cgroup /dev /var/lib/byokd /run/byokd /tmp /var/tmp; do
    if (: >"$directory/probe") 2>/dev/null; then rm "$directory/probe"; echo "$directory"; fi
done
"""


async def answered(installed: Installed) -> dict[str, object]:
    """What the daemon says of itself over its socket."""
    command = ("curl", "--silent", "--fail", "--unix-socket", "/run/byokd/api.sock", "http://byokd/status")
    return dict(json.loads((await installed.machine.run(*command)).out))


async def test_the_installation_says_what_is_next_and_systemd_has_nothing_to_complain_of(installed: Installed) -> None:
    assert "made: service keys in /etc/byokd/keys: system.1.key storage.1.key audit.1.key" in installed.said.out
    assert "BACK THEM UP NOW" in installed.said.out
    assert "systemctl enable --now byokd" in installed.said.out
    verified = await installed.machine.run("systemd-analyze", "verify", UNIT)
    assert (verified.out, verified.err) == ("", "")


async def test_what_the_tests_make_impatient_is_there_by_itself(installed: Installed) -> None:
    unit = (await installed.machine.read("/usr/local/lib/systemd/system/byokd.service")).splitlines()
    assert {"WatchdogSec=30s", "TimeoutAbortSec=5s", "RestartSec=3s"} <= set(unit)


async def test_it_is_active_when_it_is_ready_and_only_its_group_reaches_the_socket(running: Installed) -> None:
    shown = await running.machine.shown(UNIT, "ActiveState", "SubState", "Type", "Result")
    assert shown == {"ActiveState": "active", "SubState": "running", "Type": "notify", "Result": "success"}
    assert (await answered(running))["ready"] is True
    await running.machine.until(UNIT, StatusText="0 watches, 0 accounts, 0 Inaccessible")
    modes = await running.machine.run("stat", "-c", "%a %U:%G", "/run/byokd", "/run/byokd/api.sock", "/var/lib/byokd")
    assert modes.out.splitlines() == ["750 byokd:byokd", "660 byokd:byokd", "700 byokd:byokd"]


async def test_good_settings_are_taken_by_a_reload_and_bad_ones_refused_whole(running: Installed) -> None:
    machine, before = running.machine, await running.main()
    await running.write_settings(running.settings.replace('interval = "1 s"', 'interval = "2 s"'))
    await machine.run("systemctl", "reload", UNIT)
    assert '"changed": ["checks.interval"], "event": "reloaded"' in await machine.journal(UNIT)

    await running.write_settings(running.settings.replace('interval = "1 s"', 'interval = "soon"\nnonsense = 1'))
    refused = await machine.run("systemctl", "reload", UNIT, check=False)
    assert refused.code == 1
    journal = await machine.journal(UNIT)
    assert "error: /etc/byokd/byokd.toml: [checks] interval: not a duration" in journal
    assert "error: /etc/byokd/byokd.toml: [checks] nonsense: there is no such setting" in journal
    assert "error: nothing was changed: 2 reasons" in journal

    await machine.until(UNIT, ActiveState="active", SubState="running")
    assert await running.main() == before
    assert (await answered(running))["ready"] is True


async def test_a_hung_loop_is_ended_by_the_watchdog_and_started_anew(running: Installed) -> None:
    machine, before = running.machine, await running.main()
    restarts = int((await machine.shown(UNIT, "NRestarts"))["NRestarts"])
    await machine.run("kill", "-STOP", str(before))
    await machine.until(UNIT, NRestarts=str(restarts + 1), ActiveState="active")
    assert await running.main() != before
    assert "Watchdog timeout" in await machine.journal(UNIT)


async def test_a_process_that_is_aborted_says_where_it_was(running: Installed) -> None:
    await running.machine.run("kill", "-ABRT", str(await running.main()))
    await running.machine.until(UNIT, ActiveState="active")
    assert "Fatal Python error: Aborted" in await running.machine.journal(UNIT)


async def test_after_a_kill_it_is_started_anew_with_its_accounts(running: Installed) -> None:
    await running.register()
    before, restarts = await running.main(), int((await running.machine.shown(UNIT, "NRestarts"))["NRestarts"])
    await running.machine.run("kill", "-KILL", str(before))
    await running.machine.until(UNIT, NRestarts=str(restarts + 1), ActiveState="active")
    assert await running.main() != before
    assert "contoso" in (await running.byokd("accounts", "list")).out
    assert (await running.byokd("check", "contoso")).out.startswith("Usable: ")


async def test_the_service_keys_come_as_credentials_that_nobody_else_can_read(running: Installed) -> None:
    machine = running.machine
    own = await machine.run("stat", "-c", "%n %a %U", *(f"/etc/byokd/keys/{kind}.1.key" for kind in KINDS))
    assert own.out.splitlines() == [f"/etc/byokd/keys/{kind}.1.key 400 root" for kind in KINDS]
    given = "/run/credentials/byokd.service"
    assert (await machine.run("ls", given)).out.split() == [f"keys_{kind}.1.key" for kind in KINDS]
    others = await machine.run("setpriv", "--reuid=nobody", "--clear-groups", "ls", given, check=False)
    assert others.code != 0


async def test_it_writes_only_where_it_must(running: Installed) -> None:
    main = await running.main()
    user = (await running.machine.run("id", "-u", "byokd")).out.strip()
    inside = ("nsenter", "--target", str(main), "--mount", "--setuid", user, "--setgid", user, "--", "sh", "-c")
    assert (await running.machine.run(*inside, PROBE)).out.split() == [
        "/var/lib/byokd",
        "/run/byokd",
        "/tmp",  # noqa: S108 - its own
        "/var/tmp",  # noqa: S108 - as above
    ]
    hidden = await running.machine.run(*inside, "ls /root /home; cat /etc/byokd/keys/system.1.key", check=False)
    assert hidden.code != 0
    assert hidden.out.strip() in {"", "/home:\n\n/root:"}
    status = await running.machine.read(f"/proc/{main}/status")
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)


async def test_it_stops_in_time_and_says_goodbye(running: Installed) -> None:
    async with subscriber(running.broker, STATUS) as heard:
        await heard.until(lambda: [message.event["data"]["status"] for message in heard.heard][-1:] == ["online"])
        async with asyncio.timeout(STOP_SECONDS):
            await running.machine.run("systemctl", "stop", UNIT)
        await heard.until(lambda: heard.heard[-1].event["data"]["status"] == "offline")
    await running.machine.until(UNIT, ActiveState="inactive", Result="success")


async def test_wrong_service_keys_stop_it_for_good(running: Installed) -> None:
    machine, key = running.machine, "/etc/byokd/keys/system.1.key"
    await machine.run("cp", "-a", key, "/root/kept.key")
    await machine.run("systemctl", "stop", UNIT)
    await machine.run("sh", "-c", f"head -c 32 /dev/urandom >{key}")
    try:
        started = await machine.run("systemctl", "start", UNIT, check=False)
        assert started.code != 0
        shown = await machine.until(UNIT, ActiveState="failed", ExecMainStatus="2", SubState="failed")
        assert "not those that sealed the database: system.1" in await machine.journal(UNIT), shown
    finally:
        await machine.run("cp", "-a", "/root/kept.key", key)


async def test_the_unit_gives_away_little() -> None:
    analysed = await asyncio.create_subprocess_exec(
        *("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager"),
        str(ROOT / "systemd/byokd.service"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await analysed.communicate()
    assert analysed.returncode == 0, out.decode()[-2000:]


async def test_a_removal_keeps_settings_service_keys_and_accounts(running: Installed) -> None:
    machine, main = running.machine, await running.main()
    kept = ["/etc/byokd/byokd.toml", *(f"/etc/byokd/keys/{kind}.1.key" for kind in KINDS)]
    before = (await machine.run("sha256sum", *kept)).out
    removed = await machine.run("/srv/byokd/deploy/install.sh", "--uninstall")
    assert "kept: /etc/byokd (settings, service keys), /var/lib/byokd (database)" in removed.out
    assert (await machine.run("sha256sum", *kept)).out == before
    await machine.run("test", "-s", "/var/lib/byokd/byokd.db")
    for gone in ("/opt/byokd", "/usr/local/bin/byokd", f"/proc/{main}"):
        assert (await machine.run("test", "-e", gone, check=False)).code == 1
    assert await machine.shown(UNIT, "LoadState", "ActiveState") == {
        "LoadState": "not-found",
        "ActiveState": "inactive",
    }
