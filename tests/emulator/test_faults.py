"""Bad luck on demand: what a client sees of each kind, and how often."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import ClientSecretCredential, ManagedIdentityCredential
from azure.keyvault.keys.aio import KeyClient

from byokd.emulator import Emulator
from byokd.emulator.material import encode
from byokd.emulator.world import HOME_TENANT
from emulator.support import KEY, VAULT, Clock, Wire

SCOPE = "https://vault.azure.net/.default"
GET = f"/keys/{KEY}"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttle", 429, "Throttled"),
        ("server_error", 500, "InternalServerError"),
        ("unavailable", 503, "ServiceUnavailable"),
    ],
)
async def test_service_can_fail_in_its_own_words(
    vault: Emulator, wire: Wire, kind: str, status: int, code: str
) -> None:
    await vault.control.set_fault(VAULT, kind)
    seen = await wire.send("GET", GET)
    assert (seen.status, seen.codes, "Retry-After" in seen.headers) == (status, (code, None), False)
    assert "x-ms-keyvault-region" in seen.headers
    assert (await vault.control.clear_faults()) == 1
    assert (await wire.send("GET", GET)).status == 200


async def test_throttling_can_say_when_to_come_back(vault: Emulator, wire: Wire) -> None:
    await vault.control.set_fault(VAULT, "throttle", retry_after=7)
    assert (await wire.send("GET", GET)).headers["Retry-After"] == "7"


async def test_any_answer_can_be_ordered(vault: Emulator, wire: Wire) -> None:
    await vault.control.set_fault(VAULT, "answer", status=403, inner="ForbiddenByPolicy", count=1)
    assert (await wire.send("GET", GET)).codes == ("Forbidden", "ForbiddenByPolicy")
    await vault.control.set_fault(VAULT, "answer", status=401, code="Unauthorized", message="AKV10046: no key")
    seen = await wire.send("GET", GET)
    assert (seen.status, seen.body["error"]["message"]) == (401, "AKV10046: no key")
    assert "WWW-Authenticate" in seen.headers


async def test_reset_closes_the_connection_without_an_answer(vault: Emulator, wire: Wire) -> None:
    await vault.control.set_fault(VAULT, "reset", count=2)
    with pytest.raises(aiohttp.ClientConnectionError):
        await wire.send("POST", f"{GET}//wrapkey", {})
    assert vault.world.calls.total(target=VAULT, operation="wrapKey", status=0) == 1


async def test_hang_ends_when_the_client_gives_up(vault: Emulator, wire: Wire, session: aiohttp.ClientSession) -> None:
    await vault.control.set_fault(VAULT, "hang")
    with pytest.raises(TimeoutError):
        await session.get(f"https://{VAULT}.vault.azure.net{GET}", timeout=aiohttp.ClientTimeout(total=0.05))
    await vault.control.clear_faults()
    assert (await wire.send("GET", GET)).status == 200


async def outcome(client: aiohttp.ClientSession, url: str) -> object:
    try:
        return await client.get(url)
    except aiohttp.ClientError as error:
        return error


async def test_hang_does_not_hold_up_the_end_of_the_emulator(tmp_path: Path) -> None:
    started = time.monotonic()
    async with AsyncExitStack() as clients, asyncio.TaskGroup() as group, Emulator.start(state_dir=tmp_path) as running:
        await running.control.create_vault(VAULT)
        await running.control.set_fault(VAULT, "hang", operations=["get"])
        client = await clients.enter_async_context(aiohttp.ClientSession(connector=running.connector()))
        waiting = group.create_task(outcome(client, f"https://{VAULT}.vault.azure.net{GET}"))
        while not running.world.faults.active[1].struck:  # noqa: ASYNC110 - the emulator tells nobody
            await asyncio.sleep(0)
    assert isinstance(waiting.result(), aiohttp.ClientConnectionError)
    assert time.monotonic() - started < 10


async def test_latency_delays_a_genuine_answer(vault: Emulator, wire: Wire) -> None:
    await vault.control.set_fault(VAULT, "latency", seconds=0.05)
    started = time.monotonic()
    assert (await wire.send("GET", GET)).status == 200
    assert time.monotonic() - started >= 0.05


async def test_truncated_body_breaks_off(vault: Emulator, wire: Wire) -> None:
    await vault.control.set_fault(VAULT, "truncated", count=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await wire.send("GET", GET)
    assert (await wire.send("GET", GET)).status == 200


@pytest.mark.parametrize("status", [403, 502])
async def test_page_of_a_proxy_lacks_every_mark_of_key_vault(vault: Emulator, wire: Wire, status: int) -> None:
    await vault.control.set_fault(VAULT, "proxy_page", status=status)
    seen = await wire.send("GET", GET)
    assert (seen.status, seen.headers["Content-Type"].partition(";")[0]) == (status, "text/html")
    assert not [name for name in seen.headers if name.lower().startswith("x-ms-")]


async def test_stale_read_shows_an_older_version_as_the_newest(vault: Emulator, keys: KeyClient) -> None:
    first = (await vault.control.key(VAULT, KEY))["newest"]
    second = (await vault.control.rotate_key(VAULT, KEY))["newest"]
    await vault.control.set_fault(VAULT, "stale_read", count=1)
    assert (await keys.get_key(KEY, second)).properties.version == second
    await vault.control.set_fault(VAULT, "stale_read", count=1)
    assert (await keys.get_key(KEY)).properties.version == first
    assert (await keys.get_key(KEY)).properties.version == second


async def test_wrong_unwrap_answers_200_with_another_value(vault: Emulator, wire: Wire) -> None:
    wrapped = await wire.wrapped(b"p" * 32)
    await vault.control.set_fault(VAULT, "wrong_unwrap", count=1)
    assert (await wire.wrap(b"other", operation="wrapKey")).status == 200
    wrong = await wire.wrap(wrapped, operation="unwrapKey")
    assert (wrong.status, len(wrong.body["value"])) == (200, len(encode(b"p" * 32)))
    assert wrong.body["value"] != encode(b"p" * 32)
    assert (await wire.wrap(wrapped, operation="unwrapKey")).body["value"] == encode(b"p" * 32)


async def test_share_is_spread_evenly_and_count_ends_it(vault: Emulator, wire: Wire) -> None:
    await vault.control.set_fault(VAULT, "unavailable", share=0.5, count=3)
    seen = [(await wire.send("GET", GET)).status for _ in range(8)]
    assert seen == [503, 200, 503, 200, 503, 200, 200, 200]
    assert (await vault.control.state())["faults"] == []


async def test_duration_ends_a_fault(vault: Emulator, wire: Wire, clock: Clock) -> None:
    await vault.control.set_fault(VAULT, "throttle", duration_seconds=30)
    clock.advance(29.5)
    assert (await wire.send("GET", GET)).status == 429
    clock.advance(0.5)
    assert (await wire.send("GET", GET)).status == 200


async def test_fault_strikes_its_target_and_operations_only(vault: Emulator, wire: Wire) -> None:
    await vault.control.create_vault("fabrikam")
    await vault.control.set_fault("fabrikam", "unavailable", operations=["wrapKey"])
    assert (await wire.send("GET", GET)).status == 200
    assert (await wire.send("GET", GET, vault="fabrikam")).status == 403
    assert (await wire.send("POST", f"{GET}//wrapkey", {}, vault="fabrikam")).status == 503
    await vault.control.set_fault("*", "throttle")
    assert (await wire.send("GET", GET)).status == (await wire.send("GET", GET, vault="fabrikam")).status == 429
    assert await wire.sign_in()


async def test_one_fault_strikes_at_a_time_but_latency_adds(vault: Emulator, wire: Wire) -> None:
    await vault.control.set_fault(VAULT, "latency", seconds=0.0, count=5)
    await vault.control.set_fault(VAULT, "throttle", count=1)
    await vault.control.set_fault(VAULT, "unavailable", count=1)
    assert [(await wire.send("GET", GET)).status for _ in range(3)] == [429, 503, 200]
    assert [one["kind"] for one in (await vault.control.state())["faults"]] == ["latency"]


async def test_sdk_meets_throttling(vault: Emulator, keys: KeyClient) -> None:
    await vault.control.set_fault(VAULT, "throttle")
    with pytest.raises(HttpResponseError) as caught:
        await keys.get_key(KEY)
    assert (caught.value.status_code, caught.value.error.code) == (429, "Throttled")


async def test_managed_identity_endpoint_can_be_down(emulator: Emulator, identity: ManagedIdentityCredential) -> None:
    await emulator.control.set_fault("managed-identity", "server_error")
    with pytest.raises(ClientAuthenticationError) as caught:
        await identity.get_token(SCOPE)
    assert caught.value.response.status_code == 500


async def test_token_endpoint_can_be_down_or_refuse(emulator: Emulator, transport: AioHttpTransport) -> None:
    made = await emulator.control.create_application("platform", secret="s3cret")
    credential = ClientSecretCredential(HOME_TENANT, made["client_id"], "s3cret", transport=transport, retry_total=0)
    async with credential:
        await emulator.control.set_fault("entra", "reset", count=2)
        with pytest.raises(ServiceRequestError):
            await credential.get_token(SCOPE)
        await emulator.control.clear_faults()
        await emulator.control.set_fault(
            "entra", "answer", status=400, code="unauthorized_client", inner="AADSTS700016"
        )
        with pytest.raises(ClientAuthenticationError, match="AADSTS700016: "):
            await credential.get_token(SCOPE)
        await emulator.control.clear_faults(target="entra")
        assert (await credential.get_token(SCOPE)).token
