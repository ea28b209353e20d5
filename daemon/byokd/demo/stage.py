"""Sets the stage: directories, service keys, settings; broker, emulator and daemon as processes of their own."""

import asyncio
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from byokd.demo.broker import IotcoreBroker, restartable_broker
from byokd.demo.daemon import READY_SECONDS, DemoDaemon
from byokd.demo.processes import byokd_command, child, first_line
from byokd.demo.watcher import Watcher, watching
from byokd.emulator.client import ControlClient
from byokd.emulator.principals import stable_id

BEHIND, APPLICATION = "platform-behind", "platform-vendor"
"""A user-assigned identity of the machine, and the application that trusts it; the settings name them beforehand."""

DELIVERY_FILE = "event-grid.secret"
"""What Event Grid's deliveries have to show."""

SETTINGS = """\
# Written by `byokd demo`: short intervals, for a story of less than a minute. The defaults are for real use.
[service]
instance = "demo"
socket = "{directory}/api.sock"
reveal_uids = [{uid}]

[store]
url = "{store}"

[network]
ca_file = "{ca}"
connect_to = {{ "*.vault.azure.net" = "{tls}", "login.microsoftonline.com" = "{tls}" }}

[identities.platform]
kind = "managed-identity"

[identities.behind]
kind = "managed-identity"
client_id = "{behind}"

[identities.vendor]
kind = "cross-tenant"
client_id = "{vendor}"
via = "behind"

[registration]
wait_for_grant = "3 s"

[checks]
interval = "1 s"
deadline = "2 s"
confirm_after = "500 ms"
recheck_first = "500 ms"
recheck_most = "1 s"
vault_backoff_first = "500 ms"
vault_backoff_most = "1 s"

[rewrap]
retry_first = "500 ms"

[service_keys]
directory = "{directory}/keys"

[mqtt]
url = "{broker}"
topic_prefix = "{prefix}"
reconnect_first = "200 ms"
reconnect_most = "1 s"

[http]
listen = "127.0.0.1:0"

[event_grid]
listen = "127.0.0.1:0"

[event_grid.sources.azure]
secret_file = "{directory}/{secret}"
vaults = ["*.vault.azure.net"]
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the story acts on. `own_broker` is the broker where the demo started one."""

    directory: Path
    broker: str
    own_broker: IotcoreBroker | None
    control: ControlClient
    watcher: Watcher
    environment: dict[str, str]
    tls: str
    ca: Path
    service: DemoDaemon

    @property
    def daemon(self) -> asyncio.subprocess.Process:
        """The daemon's process that runs now."""
        return self.service.process

    @property
    def health_url(self) -> str:
        """Where the daemon that runs now has its pages."""
        return self.service.url

    def addresses(self, vaults: list[str]) -> dict[str, object]:
        """Give what other programs need to be pointed at this living system."""
        return {
            "api": self.health_url,
            "socket": str(self.directory / "api.sock"),
            "ca": str(self.ca),
            "token_file": None,
            "broker": self.broker,
            "emulator_control": self.control.url,
            "vaults": {"connect_to": {"*.vault.azure.net": self.tls}, "urls": vaults},
            "settings": str(self.directory / "byokd.toml"),
        }


@asynccontextmanager
async def set_stage(broker: str | None, *, store: str | None = None) -> AsyncIterator[Stage]:
    """Start everything; on leaving, end it all by process id and remove the directory.

    Args:
        broker: `mqtt://host:port` of a broker to use; None starts one.
        store: URL of an empty database to use; None makes a file.

    Raises:
        ChildFailedError: something did not start; the message holds the end of its log.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byokd-demo-")))
        own: IotcoreBroker | None = None
        prefix = "byokd/v1" if broker is None else f"byokd-demo-{secrets.token_hex(4)}/v1"
        if broker is None:
            own = await stack.enter_async_context(restartable_broker())
            broker = f"mqtt://{own.address}"
        watcher = await stack.enter_async_context(
            watching(broker, prefix=prefix, client_id=f"byokd-watcher-{secrets.token_hex(4)}")
        )
        if own is None:
            stack.push_async_callback(watcher.clear_retained)  # runs when the daemon has said its goodbye
        ready = await _start_emulator(stack, directory)
        control = await stack.enter_async_context(ControlClient(str(ready["control"])))
        environment = _environment(str(ready["control"]), directory)
        values = {"ca": ready["ca"], "tls": ready["tls"], "broker": broker, "prefix": prefix}
        values |= {"behind": stable_id("client", BEHIND), "vendor": stable_id("client", APPLICATION)}
        values["secret"] = DELIVERY_FILE
        values["store"] = store or f"sqlite:///{directory}/byokd.db"
        service = await _start_daemon(stack, directory, environment, values)
        yield Stage(
            directory=directory,
            broker=broker,
            own_broker=own,
            control=control,
            watcher=watcher,
            environment=environment,
            tls=str(ready["tls"]),
            ca=Path(str(ready["ca"])),
            service=service,
        )


def _environment(control: str, directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BYOKD_", "IDENTITY_", "MSI_"))}
    return kept | {
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": control,
        "BYOKD_SOCKET": str(directory / "api.sock"),
        "BYOKD_EMULATOR": control,
    }


async def _start_emulator(stack: AsyncExitStack, directory: Path) -> dict[str, object]:
    log = directory / "emulator.log"
    command = byokd_command("emulator", "run", "--json", "--state-dir", str(directory / "azure"))
    process = await stack.enter_async_context(child(command, log=log, environment=os.environ))
    ready = json.loads(await first_line(process, log=log, seconds=READY_SECONDS))
    return dict(ready)


async def _start_daemon(
    stack: AsyncExitStack, directory: Path, environment: dict[str, str], values: dict[str, object]
) -> DemoDaemon:
    make_service_keys(directory / "keys")
    (directory / DELIVERY_FILE).write_text(secrets.token_urlsafe(32))
    (directory / "byokd.toml").write_text(SETTINGS.format(directory=directory, uid=os.getuid(), **values))
    daemon = DemoDaemon(directory, environment)
    stack.push_async_callback(daemon.end)
    await daemon.start()
    return daemon


def make_service_keys(directory: Path) -> None:
    """Make one key of each kind, as an operator would."""
    directory.mkdir(mode=0o700)
    for name in ("system.1", "storage.1", "audit.1"):
        make_service_key(directory, name)


def make_service_key(directory: Path, name: str) -> None:
    """Make one key, such as `system.2`."""
    descriptor = os.open(directory / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
