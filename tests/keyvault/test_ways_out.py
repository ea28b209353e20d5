import asyncio
import socket
import sys

import pytest

from byokd.adapters.keyvault import transport
from byokd.adapters.keyvault.addresses import MappedResolver
from byokd.adapters.keyvault.transport import Outbound, shrink_tls_buffers
from byokd.settings import NetworkSettings, VaultSettings
from keyvault.double import Double, answer


async def placed(connect_to: dict[str, str], host: str, port: int = 443) -> set[tuple[str, int]]:
    found = await MappedResolver(connect_to).resolve(host, port, socket.AF_UNSPEC)
    return {(entry["host"], entry["port"]) for entry in found}


async def test_first_pattern_that_fits_gives_address_and_port() -> None:
    connect_to = {"special.vault.azure.net": "10.0.0.1:8443", "*.Vault.azure.net": "[::1]:9443", "*": "10.0.0.9:443"}
    assert await placed(connect_to, "Special.vault.azure.net") == {("10.0.0.1", 8443)}
    assert await placed(connect_to, "contoso.vault.azure.net") == {("::1", 9443)}
    assert await placed(connect_to, "login.microsoftonline.com") == {("10.0.0.9", 443)}


async def test_an_address_may_be_a_name_and_other_hosts_are_left_alone() -> None:
    assert ("127.0.0.1", 8443) in await placed({"*.vault.azure.net": "localhost:8443"}, "contoso.vault.azure.net")
    assert ("127.0.0.1", 443) in await placed({"*.vault.azure.net": "10.0.0.1:1"}, "localhost")


async def test_proxies_of_the_environment_are_not_used(
    to_double: Outbound, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    double.answers = [answer(200, {})]
    for session in (to_double.kept, to_double.fresh):
        async with session.get("https://contoso.vault.azure.net/") as response:
            assert response.status == 200


async def test_cookies_are_not_kept(to_double: Outbound, double: Double) -> None:
    double.answers = [answer(200, {}, set_cookie="tracked=yes")]
    for _ in range(2):
        async with to_double.kept.get("https://contoso.vault.azure.net/") as response:
            await response.read()
    assert "tracked" not in double.requests[1]


async def test_nothing_is_left_open(double: Double) -> None:
    network = NetworkSettings(ca_file=double.ca_file, connect_to={"*": f"127.0.0.1:{double.port}"})
    double.answers = [answer(200, {})]
    async with Outbound(VaultSettings(), network) as outbound:
        async with outbound.kept.get("https://contoso.vault.azure.net/") as response:
            await response.read()
        assert double.open == 1
    async with asyncio.timeout(5):
        await double.idle.wait()


async def test_the_oldest_idle_connection_makes_room(to_double: Outbound, double: Double) -> None:
    double.answers = [answer(200, {})]

    async def get(vault: str) -> None:
        async with to_double.kept.get(f"https://{vault}.vault.azure.net/") as response:
            await response.read()

    for vault in ("one", "two", "three", "four", "one", "five"):
        await get(vault)
    assert double.opened == 5
    await get("one")
    assert double.opened == 5
    await get("two")
    assert double.opened == 6


async def test_tls_connections_keep_small_buffers(
    to_double: Outbound, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test of this process may have made them small already.
    monkeypatch.setattr(asyncio.sslproto.SSLProtocol, "max_size", 8 * transport.TLS_BUFFER_BYTES)
    shrink_tls_buffers()
    double.answers = [answer(200, b"x" * 60_000)]
    async with to_double.kept.get("https://contoso.vault.azure.net/") as response:
        kept = response.connection.transport._ssl_protocol
        assert len(await response.read()) == 60_000
    assert sys.getsizeof(kept._ssl_buffer) < transport.TLS_BUFFER_BYTES + 1024


@pytest.mark.parametrize("limit", [1, 3])
async def test_requests_wait_at_the_bound(double: Double, limit: int) -> None:
    network = NetworkSettings(ca_file=double.ca_file, connect_to={"*": f"127.0.0.1:{double.port}"})
    double.answers = [answer(200, {})]
    async with Outbound(VaultSettings(connections=limit), network) as outbound:

        async def get(number: int) -> None:
            async with outbound.kept.get(f"https://v{number}.vault.azure.net/") as response:
                await response.read()

        await asyncio.gather(*(get(number) for number in range(12)))
    assert double.opened == 12
    assert double.most_open <= limit + 1
