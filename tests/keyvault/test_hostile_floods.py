"""What a server can make us take in: bounded in bytes, whatever it is called, and cut where it exceeds that."""

import asyncio
import gzip
import itertools
from collections.abc import Iterator

import pytest
from aiohttp import ClientSession

from byokd.adapters.keyvault.connections import MAX_SENT_BYTES
from byokd.adapters.keyvault.service import AzureKeyService
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import NoAnswer
from byokd.domain.vocabulary import Reason
from keyvault.double import Double, answer, challenge
from keyvault.test_hostile_vaults import OPENED, TENANT, target

BUFFERS = 16 * 2**20
"""What fits into the buffers of both kernels and both ends."""


class Endless:
    """Says something once, and then the same for ever; counts what was taken of that."""

    def __init__(self, first: bytes, then: bytes) -> None:
        self.first, self.then = first, then
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        yield self.first
        for _ in itertools.repeat(None):
            self.taken += len(self.then)
            yield self.then


HEAD = b"HTTP/1.1 200 OK\r\nx-ms-request-id: 8d2f\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
FLOODS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "interim answers with headers": (b"", (b"HTTP/1.1 103 Early\r\n" + b"link: x\r\n" * 50 + b"\r\n") * 10),
    "headers": (HEAD, b"x-a: b\r\n" * 500),
    "one header": (HEAD + b"x-a: ", b"b" * 4000),
    "a status line": (b"HTTP/1.1 200 ", b"b" * 4000),
    "body without end": (HEAD + b"\r\n", b" " * 4000),
    "chunks": (CHUNKED, b"fa0\r\n" + b" " * 4000 + b"\r\n"),
    "tiny chunks": (CHUNKED, b"1\r\n \r\n" * 600),
    "one chunk's extension": (CHUNKED + b"1;", b"b" * 4000),
    "trailers": (CHUNKED + b"0\r\n", b"x-a: b\r\n" * 500),
    "answers": (b"", answer(503, {}) * 20),
    "empty lines": (b"", b"\r\n" * 2000),
    "zeros": (b"", b"\0" * 4000),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_is_cut_off_and_is_no_answer(
    doubtful: AzureKeyService, double: Double, flood: tuple[bytes, bytes]
) -> None:
    endless = Endless(*flood)
    double.answers = [challenge(TENANT), endless]
    async with asyncio.timeout(20):
        given = await doubtful.unwrap(target(), b"wrapped-blob")
        await double.idle.wait()
    assert isinstance(given, NoAnswer), given
    assert given.reason in (Reason.UNREADABLE_ANSWER, Reason.CONNECTION_FAILED, Reason.VAULT_ERROR)
    assert endless.taken < BUFFERS

    double.answers = [challenge(TENANT), OPENED]
    assert await doubtful.unwrap(target(), b"wrapped-blob") == b"probe", "it is no worse off afterwards"


async def test_what_comes_unasked_on_a_kept_connection_ends_it(doubtful: AzureKeyService, double: Double) -> None:
    endless = Endless(OPENED, answer(200, {}) * 20)
    double.answers = [challenge(TENANT), endless]
    assert await doubtful.unwrap(target(), b"wrapped-blob") == b"probe"
    async with asyncio.timeout(20):
        await double.idle.wait()
    assert endless.taken < BUFFERS


async def test_the_bound_is_per_request_and_not_for_the_life_of_a_connection(
    doubtful: AzureKeyService, double: Double
) -> None:
    long = answer(200, {"kid": target().key.__str__(), "value": "cHJvYmU", "more": "x" * 60_000})
    double.answers = [challenge(TENANT), long]
    for _ in range(3 * MAX_SENT_BYTES // 60_000):
        assert await doubtful.unwrap(target(), b"wrapped-blob") == b"probe"
    assert double.opened == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x"])
async def test_a_compressed_answer_is_not_looked_into(doubtful: AzureKeyService, double: Double, coding: str) -> None:
    body = b'{"error": {"code": "Forbidden"}}'
    double.answers = [
        challenge(TENANT),
        answer(403, gzip.compress(body) if "gzip" in coding else body, content_encoding=coding),
    ]
    given = await doubtful.unwrap(target(), b"wrapped-blob")
    assert isinstance(given, NoAnswer)
    assert given.reason is Reason.UNREADABLE_ANSWER
    assert all("accept-encoding: identity" in request.lower() for request in double.requests)


@pytest.mark.parametrize("way", ["kept", "fresh"])
async def test_no_answer_is_ever_decompressed(
    to_double: Outbound,
    double: Double,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def inflate(*_: object, **__: object) -> None:
        raise AssertionError("something was decompressed")

    for place in ("zlib.decompressobj", "zlib.decompress", "gzip.decompress"):
        monkeypatch.setattr(place, inflate)
    double.answers = [answer(200, gzip.compress(b" " * 1_000_000), content_encoding="gzip")]
    session: ClientSession = getattr(to_double, way)
    with pytest.raises(Exception, match="compressed"):
        await session.get("https://contoso.vault.azure.net/")


async def test_a_hundred_servers_that_hang_keep_no_other_waiting(doubtful: AzureKeyService, double: Double) -> None:
    """Each costs its own connections and its own deadline; the pool of four here makes room when those end."""
    double.answers = [lambda request: Double.SILENCE if "Host: bad" in request else challenge(TENANT)]

    async def given_up(number: int) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await doubtful.unwrap(target(f"bad{number:03d}"), b"wrapped-blob")

    await asyncio.gather(*(given_up(number) for number in range(100)))
    async with asyncio.timeout(5):
        assert isinstance(await doubtful.unwrap(target(), b"wrapped-blob"), NoAnswer)
    assert double.most_open <= 4 + 1
