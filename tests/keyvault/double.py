"""What stands in for vaults and for credentials where the emulator is too well-behaved."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from byokd.emulator.tls import make_context


class Double:
    """A TLS server in place of all vaults: it answers as told and remembers every request, head and body.

    An answer can end with HANG_UP, be SILENCE (taken and never answered), or begin with DRIP: a byte at a time.
    """

    HANG_UP, SILENCE, DRIP = b"\x00hang up\x00", b"\x00silence\x00", b"\x00drip\x00"

    def __init__(self, ca_file: Path, port: int) -> None:
        self.ca_file = ca_file
        self.port = port
        self.requests: list[str] = []
        self.answers: list[bytes | Iterable[bytes] | Callable[[str], bytes]] = []
        self.open = 0
        self.idle = asyncio.Event()
        self.most_open = 0
        self.opened = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, directory: Path) -> AsyncIterator["Double"]:
        context = make_context(directory / "ca.pem")
        double = cls(directory / "ca.pem", 0)
        server = await asyncio.start_server(double.serve, "127.0.0.1", 0, ssl=context)
        double.port = server.sockets[0].getsockname()[1]
        async with server:
            yield double
            server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.idle.clear()
        self.opened += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.requests.append(head + body.decode())
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                answer = answer(self.requests[-1]) if callable(answer) else answer
                if isinstance(answer, bytes) and not await self.goes_on(answer, reader, writer):
                    return
                for piece in () if isinstance(answer, bytes) else answer:
                    writer.write(piece)
                    await writer.drain()
                    # A socket that is gone takes everything at once; only the loop can tell the transport of it.
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def goes_on(self, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Give an answer; false when nothing is to follow it on this connection."""
        if answer == self.SILENCE:
            await reader.read()  # until the client hangs up
            return False
        if answer.startswith(self.DRIP):
            for octet in answer.removeprefix(self.DRIP):
                writer.write(bytes([octet]))
                await writer.drain()
                await asyncio.sleep(0.01)
            return False
        writer.write(answer.removesuffix(self.HANG_UP))
        await writer.drain()
        return not answer.endswith(self.HANG_UP)


def answer(status: int, document: object = None, **headers: str) -> bytes:
    """An HTTP answer with Key Vault's headers; `x_ms_request_id=""` leaves one out."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    told = {"x-ms-request-id": "8d2f1c0e", "content-type": "application/json", "content-length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in told.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def challenge(tenant: str, resource: str = "https://vault.azure.net", **headers: str) -> bytes:
    """Key Vault's 401 to a request without a token."""
    told = f'Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="{resource}"'
    document = {"error": {"code": "Unauthorized", "message": "AKV10000: Request is missing a Bearer or PoP token."}}
    return answer(401, document, www_authenticate=told, **headers)


class Tokens:
    """Gives the token that tests look for in what the server saw."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []

    async def token(self, identity: str, **what: object) -> str:
        self.asked.append({"identity": identity, **what})
        return f"secret-token-{len(self.asked)}"
