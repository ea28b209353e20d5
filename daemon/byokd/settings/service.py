"""The daemon itself, its own keys, and what it serves over HTTP."""

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from byokd.settings.group import Group
from byokd.settings.kinds import AbsolutePath, Address, Duration, Name


class ServiceSettings(Group):
    """The daemon itself."""

    instance: Name = "byokd"
    """Name of this replica on the bus and in leases: lower-case letters, digits and hyphens."""

    socket: AbsolutePath = Path("/run/byokd/api.sock")
    """Unix socket for the command line. Whoever may write to it (its group) may manage accounts."""

    reveal_uids: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Users, by number, who may have protected values shown. Root alone: it can read the service's keys and memory
    anyway, so that listing it gives nothing away. To use the socket is not enough."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged. A healthy check logs nothing at `info`."""

    check_grace: Duration = timedelta(seconds=5)
    """How long running checks may go on after SIGTERM: one check deadline."""

    publish_grace: Duration = timedelta(seconds=3)
    """How long unpublished events may still be sent after SIGTERM; the rest are sent after the next start."""


class ServiceKeySettings(Group):
    """The service's own keys: files `system.<id>.key`, `storage.<id>.key` and `audit.<id>.key` of 32 random bytes.

    Mode 0600. The system key wraps account keys of accounts without a customer key, the storage key is the second
    layer over every stored secret, the audit key chains the record of events.
    """

    directory: AbsolutePath | None = None
    """Where they are. Unset: `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`) when a file in it is named like a
    service key, else `/etc/byokd/keys`; never both. Files that group or others can read are refused."""

    verify_concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    """Account keys that `byokd keys verify` has unwrapped at once. Each costs the customer's vault one call."""


class HttpSettings(Group):
    """Health and metrics over TCP."""

    listen: Address = "127.0.0.1:9470"
    """Address to listen on; port 0 takes a free one. Health and metrics need no credential, so keep it on loopback or
    a private network."""

    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host headers that are answered; others are refused, which stops DNS rebinding."""

    @model_validator(mode="after")
    def _listens_somewhere_sane(self) -> Self:
        host = self.listen.rpartition(":")[0].strip("[]")
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("http.listen needs an IP address, such as 127.0.0.1:9470") from None
        return self
