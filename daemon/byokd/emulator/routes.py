"""How a client reaches the emulator: names of Azure lead to its address, and its authority is trusted.

Names, Host headers and TLS server names stay those of Azure, so that no check in a client is weakened.
"""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp.abc import AbstractResolver, ResolveResult

from byokd.emulator.tokens import LOGIN_HOSTS

AZURE_HOSTS = (".vault.azure.net", *LOGIN_HOSTS, "management.azure.com")
"""Names, or ends of names, that lead to the TLS listener."""


class EmulatorResolver(AbstractResolver):
    """Resolves the names of Azure to the emulator's TLS listener; every other name is refused.

    `exists` may say that a name does not exist, as for a vault that is gone.
    """

    def __init__(self, address: tuple[str, int], exists: Callable[[str], bool] | None = None) -> None:
        self._host, self._port = address
        self._exists = exists

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - the listener has one port
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - and one address
    ) -> list[ResolveResult]:
        """The listener's address and port, whatever port was asked for."""
        if not host.endswith(AZURE_HOSTS) or (self._exists is not None and not self._exists(host)):
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host,
                host=self._host,
                port=self._port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


def trusting_context(ca_file: Path) -> ssl.SSLContext:
    """A client context that trusts the emulator's authority and nothing else."""
    return ssl.create_default_context(cafile=str(ca_file))
