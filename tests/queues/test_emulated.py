"""Event Grid, as the emulator plays it, writing into Azurite."""

import base64
import json
from typing import Any

import pytest

from byokd.domain.queued import read_message
from byokd.emulator import ControlError, Emulator
from parts.azurite import ACCOUNT
from parts.waiting import eventually
from queues.platform import Platform

pytestmark = pytest.mark.real("azurite")

VAULT = "contoso-keys"


async def subscribed(emulator: Emulator, site: Platform, **options: Any) -> None:  # noqa: ANN401 - any option
    endpoint = f"https://{site.storage.address}/{ACCOUNT}/events"
    told: dict[str, Any] = {"endpoint_type": "queue", "ca_file": str(site.storage.files.authority), **options}
    await emulator.control.create_subscription(VAULT, "to-queue", endpoint, wait_scale=0.001, **told)


@pytest.mark.parametrize("schema", ["EventGridSchema", "CloudEventSchemaV1_0"])
async def test_each_event_is_a_message_that_byokd_reads(emulator: Emulator, site: Platform, schema: str) -> None:
    await emulator.control.create_vault(VAULT)
    await subscribed(emulator, site, schema=schema)
    newest = (await emulator.control.create_key(VAULT, "media", size=2048))["newest"]
    texts: list[str] = []

    async def is_there() -> bool:
        texts[:] = await site.texts()
        return bool(texts)

    await eventually(is_there)
    (text,) = texts
    document = json.loads(base64.b64decode(text, validate=True))
    assert document["data"]["Version"] == newest
    (signal,) = read_message(text).signals
    assert (signal.vault, signal.key, signal.id) == (f"{VAULT}.vault.azure.net", "media", document["id"])


async def test_what_cannot_be_delivered_is_tried_again(emulator: Emulator, site: Platform) -> None:
    await emulator.control.create_vault(VAULT)
    await site.owner("events").delete_queue()
    await subscribed(emulator, site)
    await emulator.control.create_key(VAULT, "media", size=2048)

    async def is_retried() -> bool:
        return any(one["code"] == "retried" and one["status"] == 404 for one in await emulator.control.calls())

    await eventually(is_retried)
    await site.make("events")

    async def is_there() -> bool:
        return bool(await site.texts())

    await eventually(is_there)


async def test_a_queue_takes_no_batches_no_headers_and_no_plain_http(emulator: Emulator, site: Platform) -> None:
    await emulator.control.create_vault(VAULT)
    for wrong in ({"batch_size": 2}, {"headers": {"x-secret": "x"}}):
        with pytest.raises(ControlError):
            await subscribed(emulator, site, **wrong)
    with pytest.raises(ControlError):
        await emulator.control.create_subscription(VAULT, "plain", "http://127.0.0.1:1/a/b", endpoint_type="queue")
