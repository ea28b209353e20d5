"""A program that has loaded the daemon and forks it on demand: a start costs a tenth of a second instead of two.

Each line of its input is a request in JSON, each line of its output the answer:
{"start": {...}} gives the process id, {"reap": pid} waits for its end and gives the wait status.
"""

import ctypes
import gc
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1

LATE = (
    "alembic.command",
    "anyio._backends._asyncio",
    "azure.core.rest._aiohttp",
    "azure.identity.aio._credentials.imds",
    "byokd.cli.service",
    "pydantic.v1",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""What a daemon loads only once it runs: most of the time of a start."""


def serve() -> None:
    from kills import process  # noqa: PLC0415 - what takes long is loaded once, here

    for name in LATE:
        import_module(name)
    gc.freeze()
    print("ready", flush=True)  # noqa: T201 - its output is how it answers
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        if "start" in request:
            answer = _fork(process.run, request["start"])
        else:
            _, answer = os.waitpid(request["reap"], 0)
        print(json.dumps(answer), flush=True)  # noqa: T201


def _fork(run: Any, order: dict[str, Any]) -> int:  # noqa: ANN401
    pid = os.fork()
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody is left behind
        os.setsid()
        log = os.open(Path(order["directory"]) / "daemon.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, to in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(number, to)
        run(order)
    finally:
        os._exit(70)


if __name__ == "__main__":
    serve()
