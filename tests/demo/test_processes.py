"""Children of a demo or a test end with it, however it ends."""

import asyncio
import os
import select
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

PARENT = """
import asyncio, os, sys
from pathlib import Path
from byokd.demo.processes import child

async def main():
    held = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    async with child(held, log=Path(sys.argv[1]), environment=os.environ) as process:
        await process.stdout.readline()
        print(process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_child_ends_with_its_parent_even_when_it_is_held(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(tmp_path / "log"), stdout=PIPE)
    assert parent.stdout is not None
    async with asyncio.timeout(20):
        pid = int(await parent.stdout.readline())
    child = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(child, signal.SIGSTOP)
        parent.kill()
        await parent.wait()
        assert await asyncio.to_thread(select.select, [child], [], [], 10) == ([child], [], [])
    finally:
        if not select.select([child], [], [], 0)[0]:
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)
