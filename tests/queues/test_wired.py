"""Which tenant a queue's token is asked from, and that every source of that kind has a queue."""

from typing import cast

import pytest

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.identity.sources import NOBODY
from byokd.adapters.keyvault.transport import Outbound
from byokd.runtime.wiring import _event_queues
from byokd.settings import EventGridSettings, IdentitySettings, NetworkSettings, Settings, VaultSettings
from byokd.settings.event_grid import SourceSettings
from queues.platform import source

HOME, STORAGE, CLIENT = (f"{number}" * 8 + "-0000-4000-8000-000000000000" for number in (1, 2, 3))
WEBHOOK = SourceSettings.model_construct(vaults=("*.vault.azure.net",))


@pytest.mark.parametrize(
    ("identity", "told", "asked"),
    [
        (IdentitySettings(), None, NOBODY),
        (IdentitySettings(kind="workload-identity", client_id=CLIENT, tenant=HOME, token_file="/t"), None, HOME),
        (IdentitySettings(kind="workload-identity", client_id=CLIENT, tenant=HOME, token_file="/t"), STORAGE, STORAGE),
        (IdentitySettings(kind="certificate", client_id=CLIENT, certificate_file="/c"), STORAGE, STORAGE),
    ],
)
async def test_the_tenant_is_the_sources_or_the_identitys_own(
    identity: IdentitySettings, told: str | None, asked: str
) -> None:
    grid = EventGridSettings.model_construct(sources={"queue": source(tenant=told), "webhook": WEBHOOK})
    settings = Settings(identities={"platform": identity}, event_grid=grid)
    async with Outbound(VaultSettings(), NetworkSettings()) as outbound:
        queues = _event_queues(settings, outbound, cast("Credentials", None))
        assert {name: queue._credential.tenant for name, queue in queues.items()} == {"queue": asked}  # type: ignore[attr-defined]
