"""What stands around a queue in tests: who writes to it, and who reads it."""

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from azure.storage.queue.aio import QueueClient

from byokd.adapters.eventgrid.queue import AzureEventQueue, _Credential
from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.emulator.world import HOME_TENANT
from byokd.runtime.clock import SystemClock
from byokd.settings import IdentitySettings, NetworkSettings, VaultSettings
from byokd.settings.event_grid import SourceSettings
from parts.azurite import HOST, Azurite

IDENTITIES: Final = {"platform": IdentitySettings(kind="managed-identity")}


def source(queue: str = f"https://{HOST}/events", **more: Any) -> SourceSettings:  # noqa: ANN401 - any setting
    plain = {"kind": "queue", "queue": queue, "identity": "platform", "vaults": ["*.vault.azure.net"]}
    return SourceSettings.model_validate({**plain, "visibility_timeout": timedelta(seconds=1), **more})


def event(number: object, *, vault: str = "contoso", key: str = "media", cloud: bool = False) -> dict[str, Any]:
    """An event of Key Vault, in either schema."""
    address = f"https://{vault}.vault.azure.net/keys/{key}/0123456789abcdef0123456789abcdef"
    data = {"Id": address, "VaultName": vault, "ObjectType": "Key", "ObjectName": key, "Version": "0"}
    kind = "Microsoft.KeyVault.KeyNewVersionCreated"
    if cloud:
        return {"specversion": "1.0", "id": str(number), "type": kind, "source": "/x", "data": data}
    return {"id": str(number), "eventType": kind, "data": data, "dataVersion": "1"}


def encoded(document: object) -> str:
    """As Event Grid writes it."""
    return base64.b64encode(json.dumps(document).encode()).decode()


@dataclass(slots=True)
class Platform:
    storage: Azurite
    outbound: Outbound
    credentials: Credentials

    def queue(self, **more: Any) -> AzureEventQueue:  # noqa: ANN401 - any setting
        return self.of(source(**more))

    def of(self, settings: SourceSettings) -> AzureEventQueue:
        return AzureEventQueue(settings, self.outbound.queues, self.credentials, tenant=TenantId(HOME_TENANT))

    def owner(self, queue: str) -> QueueClient:
        """Whoever makes queues and writes to them."""
        credential = _Credential(self.credentials, IdentityName("platform"), TenantId(HOME_TENANT))
        return QueueClient(f"https://{HOST}", queue, credential=credential, transport=self.outbound.queues)

    async def make(self, *queues: str) -> None:
        for name in queues:
            await self.owner(name).create_queue()

    async def write(self, *texts: str, queue: str = "events") -> None:
        for text in texts:
            await self.owner(queue).send_message(text)

    async def texts(self, queue: str = "events") -> Sequence[str]:
        """What can be seen in a queue now."""
        return [str(one.content) for one in await self.owner(queue).peek_messages(max_messages=32)]


def both_authorities(directory: Path, *files: Path) -> Path:
    path = directory / "authorities.pem"
    path.write_text("".join(one.read_text() for one in files))
    return path


@asynccontextmanager
async def platform(
    directory: Path, storage: Azurite, *, azure: Path, connect_to: Mapping[str, str]
) -> AsyncIterator[Platform]:
    """A way out that trusts Azurite and Azure in miniature, whose certificate is `azure`."""
    network = NetworkSettings(
        ca_file=both_authorities(directory, azure, storage.files.authority), connect_to=dict(connect_to)
    )
    async with Outbound(VaultSettings(), network) as outbound:
        credentials = Credentials(IDENTITIES, outbound.tokens, clock=SystemClock())
        yield Platform(storage, outbound, credentials)
        await credentials.close()
