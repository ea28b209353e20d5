"""What parts/forking.py starts is what `subprocess` starts: else the tests beside this one would try something else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from byokd.demo.processes import bound_to_us, byokd_command
from parts.forking import Forker, byokd_arguments
from service.support import plain_environment

COMMANDS = (
    ("--version",),
    ("accounts", "list"),
    ("accounts", "nonsense"),
    ("check-config", "--settings", "nowhere.toml"),
    ("run", "--settings", "nowhere.toml"),
)


def ran(command: Sequence[str], directory: Path) -> tuple[int, bytes, bytes]:
    environment = plain_environment() | {"BYOKD_SOCKET": "/nowhere/api.sock"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def emulator(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    command = bound_to_us(byokd_command("emulator", "run", "--json", "--state-dir", str(directory)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline()
        process.kill()


@pytest.mark.parametrize("arguments", COMMANDS)
def test_it_says_and_ends_as_always(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = byokd_command(*arguments)
    assert byokd_arguments(command) == (list(arguments), None)
    # Another spelling of the same program, which is not forked.
    always = [command[0], "-u", *command[1:]]
    assert byokd_arguments(always) is None
    assert ran(command, tmp_path) == ran(always, tmp_path)


def test_it_is_a_child_of_ours_in_a_session_of_its_own_and_can_be_killed(tmp_path: Path) -> None:
    with emulator(tmp_path) as (process, said):
        assert b"control" in said
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"\nPPid:\t{os.getpid()}\n" in status
        assert os.getsid(process.pid) == process.pid
        assert b"forking.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert Path(f"/proc/{process.pid}/cwd").resolve() == Path.cwd()
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_what_is_bound_to_another_process_than_ours_does_not_begin(tmp_path: Path) -> None:
    bound = list(bound_to_us(byokd_command("--version")))
    bound[4] = "1"
    assert ran(bound, tmp_path) == (0, b"", b"")


def test_other_programs_and_another_python_are_started_as_always(forker: Forker) -> None:
    assert byokd_arguments([sys.executable, "-c", "pass"]) is None
    assert byokd_arguments(["/usr/bin/python3", "-m", "byokd"]) is None
    assert forker.fits(plain_environment())
    assert not forker.fits(plain_environment() | {"PYTHONPATH": "/elsewhere"})
