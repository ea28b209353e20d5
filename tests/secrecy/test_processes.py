"""What a process that holds keys gives away when it fails or is looked at: nothing of its memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

from byokd.demo.processes import byokd_command, child
from parts.waiting import until
from service.support import plain_environment
from service.test_process import settings

PRIVATE = """
import ctypes, resource
from byokd.runtime.private_memory import keep_memory_private
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1
keep_memory_private()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
"""

FAILING = """
import logging, structlog
from byokd.runtime.logs import configure_logs

def fail(argument):
    local = "local-secret"
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error

configure_logs("debug")
for tell in (structlog.get_logger().exception, logging.getLogger("uvicorn.error").exception, logging.exception):
    try:
        fail("argument-secret")
    except ValueError:
        tell("it failed")
for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.identity.aio", "msal.token_cache", "aiomqtt"):
    logging.getLogger(name).error("body-secret")
    logging.getLogger(name).debug("body-secret")
"""


def ran(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)


def test_a_process_is_not_dumped_and_not_looked_into() -> None:
    assert ran(PRIVATE).stdout == "0 (0, 0)\n"


def core_limits(pid: int) -> list[str]:
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in limits if line.startswith("Max core file size")).split()[4:6]


def owner(pid: int) -> int:
    """Whose the process's memory is to the system."""
    return Path(f"/proc/{pid}/environ").stat().st_uid


async def test_the_daemon_leaves_no_core_dump(tmp_path: Path) -> None:
    path = settings(tmp_path)
    daemon = byokd_command("run", "--settings", str(path))
    async with child(daemon, log=tmp_path / "daemon.log", environment=plain_environment()) as process:
        await until(lambda: (tmp_path / "api.sock").exists() or process.returncode is not None)
        assert core_limits(process.pid) == ["0", "0"]
        assert os.getuid() == 0 or owner(process.pid) == 0, "its own user can look into it"


def test_tracebacks_hold_no_values_and_libraries_say_nothing_of_what_they_send() -> None:
    said = ran(FAILING).stderr
    lines = [json.loads(line) for line in said.splitlines()]
    assert len(lines) == 3
    assert said.count("outer") >= 3
    assert said.count("inner") >= 3
    assert "secret" not in said.replace('argument-secret")\\n', "")
    for line in lines:
        for one in line["exception"]:
            assert all(set(frame) <= {"filename", "lineno", "name"} for frame in one["frames"])
