"""Short words for tests of the store on PostgreSQL."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from byokd.adapters.sql import SqlStore, open_postgres
from byokd.runtime.clock import UuidIds
from byokd.settings import StoreSettings
from parts.certificates import ServerFiles
from parts.postgresql import PostgreSQL
from store.builders import auditor

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def settings(url: str, **more: object) -> StoreSettings:
    return StoreSettings.model_validate({"url": url, "busy_timeout": "200 ms", **more})


@asynccontextmanager
async def opened(url: str, **more: object) -> AsyncIterator[SqlStore]:
    store = open_postgres(settings(url, **more), ids=UuidIds(), auditor=auditor())
    try:
        yield store
    finally:
        await store.close()


def database(url: str) -> str:
    """Give the name of the database that a URL leads to."""
    return url.split("/")[3].partition("?")[0]


def terminate(server: PostgreSQL, url: str) -> None:
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database(url)}'")  # noqa: S608


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def tls_in_front(server: PostgreSQL, files: ServerFiles) -> AsyncIterator[int]:
    """Speak TLS in front of the server, as PostgreSQL does: the one in the wheel is built without. Gives the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == SSL_REQUEST
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except OSError:
            writer.close()
            return
        behind, ahead = await asyncio.open_unix_connection(f"{server.directory}/.s.PGSQL.{server.port}")
        await asyncio.gather(_relay(reader, ahead), _relay(behind, writer))

    front = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with front:
        yield front.sockets[0].getsockname()[1]
