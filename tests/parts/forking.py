"""Starts `python -m byokd` without loading it each time: a process that has everything loaded forks, and is byokd.

A start takes a fraction of the processor time that loading takes. What comes of it is in every other respect what
`subprocess` starts: a child of who starts it, with its own arguments, environment, files, session and end. Whatever is
started otherwise, or with other settings for Python itself, is started as always.
"""

import ctypes
import gc
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

FORKING_BYOKD = Path(__file__).with_name("forking_byokd.py")
"""The program that is byokd and starts what it starts by forking."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""From linux/prctl.h."""

LOADED = (
    "byokd.cli.accounts",
    "byokd.cli.emulator",
    "byokd.cli.serving",
    "byokd.demo.bound",
    "byokd.emulator.server",
    "alembic.command",
    "anyio._backends._asyncio",
    "azure.core.rest._aiohttp",
    "azure.identity.aio._credentials.imds",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""What takes long to load: for a verb, the emulator, the daemon, and the daemon once it runs."""

NO_MORE = {"preexec_fn": None, "close_fds": True, "pass_fds": (), "shell": False, "executable": None, "umask": -1}
NO_MORE |= dict.fromkeys(("gid", "gids", "uid"))
"""What else may be asked of a start, and is not: else it is made as always."""

PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
READY = b"ready"
LONGEST = 1 << 17
"""Octets of an order: mostly the environment."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to be. With `bound_to`, it ends with the process of that id, as `byokd.demo.bound` has it."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    session: bool
    bound_to: int | None


def byokd_arguments(command: Sequence[str]) -> tuple[Sequence[str], int | None] | None:
    """Give what follows `python -m byokd`, and what it is bound to; None when it is another program."""
    from byokd.demo import bound  # noqa: PLC0415 - what is loaded before leaks are watched for is not watched

    parent = None
    if list(command[:4]) == [sys.executable, "-I", "-S", bound.__file__]:
        parent, command = int(command[4]), command[5:]
    return (list(command[3:]), parent) if list(command[:3]) == [sys.executable, "-m", "byokd"] else None


class Forker:
    """The process that has everything loaded, and forks."""

    def __init__(self) -> None:
        self._python = _for_python(os.environ)
        self._socket, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        assert self._socket.recv(LONGEST) == READY

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Tell whether Python itself would be the same with that environment."""
        return _for_python(environment) == self._python

    def start(self, order: Order, files: Sequence[int]) -> int:
        """Start a program with these files as its 0, 1 and 2; give the id of what is a child of this process then."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # only now: other orphans are none of ours
        try:
            socket.send_fds(self._socket, [json.dumps(asdict(order)).encode()], list(files))
            return int(self._socket.recv(LONGEST))
        finally:
            _prctl(PR_SET_CHILD_SUBREAPER, 0)

    def end(self) -> None:
        self._socket.close()
        self._process.wait()


@contextmanager
def forked(forker: Forker, *, but: AbstractSet[str] = frozenset()) -> Iterator[None]:
    """Let byokd be started by forking meanwhile, but for the verbs that are named."""
    execute: Callable[..., None] = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    signature = inspect.signature(execute)

    def executing(process: Any, *given: Any) -> None:  # noqa: ANN401 - a Popen that is only half made
        asked = signature.bind(process, *given).arguments
        order = _order(asked)
        if order is None or not forker.fits(order.environment) or not but.isdisjoint(order.arguments[:1]):
            execute(process, *given)
            return
        theirs = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        process.pid = forker.start(order, [number if file == -1 else file for number, file in enumerate(theirs)])
        process._child_created = True
        process._close_pipe_fds(*(asked[name] for name in PIPES))

    subprocess.Popen._execute_child = executing  # type: ignore[attr-defined]
    try:
        yield
    finally:
        subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]


def _order(asked: Mapping[str, Any]) -> Order | None:
    command = asked["args"]
    if isinstance(command, str | bytes | os.PathLike) or any(asked[name] != no for name, no in NO_MORE.items()):
        return None
    found = byokd_arguments(list(command))
    if found is None:
        return None
    environment = os.environ if asked["env"] is None else asked["env"]
    directory = os.fspath(asked["cwd"] or Path.cwd())
    return Order(found[0], dict(environment), directory, asked["start_new_session"], found[1])


def _for_python(environment: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "LC_", "LANG"))}


def _prctl(what: int, value: int) -> None:
    assert ctypes.CDLL(None).prctl(what, value, 0, 0, 0) == 0


def serve(orders: socket.socket) -> Order | None:
    """Fork for each order; return in a fork, with what to be, and here when nobody orders any more."""
    sys.path.pop(0)  # where this file is: no program of byokd looks there
    for name in LOADED:
        import_module(name)
    gc.collect()
    gc.freeze()
    orders.send(READY)
    while True:
        text, files, _, _ = socket.recv_fds(orders, LONGEST, 3)
        if not text:
            return None
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            one_between = os.getpid()
            if program := os.fork():
                os.write(writing, str(program).encode())
                os._exit(0)
            while os.getppid() == one_between:  # until we are the child of who ordered
                time.sleep(0.0002)
            orders.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            return Order(**json.loads(text))
        os.waitpid(between, 0)
        orders.send(os.read(reading, 32))
        for file in (reading, writing, *files):
            os.close(file)


def become(order: Order) -> None:
    """Be the program that was ordered, to its end."""
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.directory)
    if order.session:
        os.setsid()
    if order.bound_to is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != order.bound_to:
            return
    sys.path.insert(0, order.directory)
    sys.argv[1:] = order.arguments
    runpy.run_module("byokd", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    given = serve(socket.socket(fileno=int(sys.argv[1])))
    if given is not None:
        become(given)
