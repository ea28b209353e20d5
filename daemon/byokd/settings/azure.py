"""Which hosts of Azure are asked, and how they are reached."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from byokd.settings.group import Group
from byokd.settings.kinds import AbsolutePath, Address, Duration, Guid, Nameserver, Suffix, Switch


class VaultSettings(Group):
    """Which vaults a credential may be sent to."""

    allowed_suffixes: Annotated[tuple[Suffix, ...], Field(min_length=1)] = (
        "vault.azure.net",
        "vault.usgovcloudapi.net",
        "vault.azure.cn",
    )
    """A vault host is one name directly under one of these. Public, US government and China clouds; no Managed HSM."""

    connections: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Open TLS connections to all vaults together. One costs about 60 KB, so the bound is a bound on memory."""

    keepalive: Duration = timedelta(seconds=75)
    """How long an idle connection is kept: longer than a check interval, so that a check finds it open."""

    quota_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of a vault's documented limit (4000 weighted operations in 10 s, which its owner uses too) that is spent at
    most, at least 0.05. At the bound calls wait, rewraps longer than checks. 0: no bound of ours."""

    require_purge_protection: Switch = True
    """Take a customer's key only if its vault has soft-delete and purge protection on, as far as vault or ARM tell.
    Of a key that is in use already, what is switched off is a warning."""

    clients: Annotated[int, Field(ge=1)] = 1000
    """SDK clients kept, one per vault and identity (about 30 KB each); the least recently used one goes."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if 0 < self.quota_share < 0.05:  # noqa: PLR2004 - below it a single call could be more than may be spent at once
            raise ValueError("quota_share is less than 0.05; 0 means no bound")
        return self


class NetworkSettings(Group):
    """How Azure is reached."""

    ca_file: AbsolutePath | None = None
    """PEM file of the authorities that may vouch for Azure's hosts, instead of the system's. Checked before the
    start."""

    connect_to: Mapping[str, Address] = Field(default_factory=dict)
    """Host patterns (`*.vault.azure.net`) to host:port, like curl's --connect-to: for split DNS, private endpoints and
    the emulator. The certificate must still be for the original name."""

    private_addresses: Literal["allow", "refuse"] = "allow"
    """Whether names of vaults may lead to private addresses. `allow`, for private endpoints have such. `refuse` where
    none is used: a name that a customer gave then reaches nothing inside your network. Loopback and link-local
    addresses (instance metadata) are refused in any case, and what `connect_to` names in none. It is looked at after
    the name was resolved, at the address that is connected to."""

    nameservers: Annotated[tuple[Nameserver, ...], Field(max_length=3)] = ()
    """DNS servers, `address` or `address:port`, that are asked whether the name of a vault that does not resolve exists
    at all; connections never depend on them. None: the system's. A vault is taken for deleted only when every one that
    answers says so, and knows another vault of the same cloud."""


class ArmSettings(Group):
    """Azure Resource Manager, asked for a vault's region, soft-delete and purge protection.

    At a registration, and from time to time afterwards. The account's identity is asked with; it has to be *Reader* of
    the vault. Where nothing is told nothing is refused, and no warning changes.
    """

    enabled: Switch = False
    """Ask. Then a key in a vault of another region than the account's is refused."""

    subscriptions: Annotated[tuple[Guid, ...], Field(max_length=20)] = ()
    """Subscriptions, by their GUIDs, in which customers' vaults are looked for, beside the account's own."""

    deadline: Duration = timedelta(seconds=5)
    """For all that is asked of one vault. When it has passed, the registration goes on without."""

    interval: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(days=1)
    """Between two times that ARM is asked about the vault of keys in use: what it lacks then is a warning. A day,
    because what changes there changes seldom, and ARM's limits are per subscription and shared with its owner."""
