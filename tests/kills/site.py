"""What all worlds share: the emulator, a broker, and the program that forks daemons."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from byokd.demo.processes import byokd_command, child, first_line
from byokd.emulator.client import ControlClient
from kills.daemons import Forker, forker
from parts.mosquitto import mosquitto

START_SECONDS = 30
_FOREIGN = ("BYOKD_", "IDENTITY_", "MSI_", "AZURE_")


@dataclass(frozen=True, slots=True)
class Site:
    directory: Path
    control: ControlClient
    tls: str
    ca: str
    broker: str
    forker: Forker
    environment: Mapping[str, str]


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    """Start it all; on leaving, end it all by process id."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(mosquitto(directory / "broker"))
        log = directory / "emulator.log"
        command = byokd_command("emulator", "run", "--json", "--state-dir", str(directory / "azure"))
        emulator = await stack.enter_async_context(child(command, log=log, environment=clean))
        ready = json.loads(await first_line(emulator, log=log, seconds=START_SECONDS))
        environment = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": str(ready["control"])}
        yield Site(
            directory=directory,
            control=await stack.enter_async_context(ControlClient(str(ready["control"]))),
            tls=str(ready["tls"]),
            ca=str(ready["ca"]),
            broker=broker.address,
            forker=await stack.enter_async_context(forker(directory, clean)),
            environment=environment,
        )
