"""The settings: frozen groups, a docstring per field with unit, default and reason.

Read (by `byokd.runtime.configuration`) from a TOML file, overridable by environment variables
BYOKD_<SECTION>__<NAME>. Secrets come only from files.
docs/settings.md is generated from this package.
"""

from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from byokd.settings.bus import MqttSettings as MqttSettings
from byokd.settings.event_grid import EventGridSettings as EventGridSettings
from byokd.settings.event_grid import flaw_of_queues
from byokd.settings.group import Group as _Group
from byokd.settings.identities import IdentitySettings as IdentitySettings
from byokd.settings.identities import check_together
from byokd.settings.kinds import (
    AbsolutePath,
    Address,
    Duration,
    DurationOrNothing,
    Guid,
    Name,
    Nameserver,
    StoreUrl,
    Suffix,
    Switch,
)


class ServiceSettings(_Group):
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


class StoreSettings(_Group):
    """The database."""

    url: StoreUrl = "sqlite:////var/lib/byokd/byokd.db"
    """`sqlite:///` and a path (three slashes for a relative one, four for an absolute one), or
    `postgresql://user@host:port/dbname`, or `postgresql://user@/dbname?host=/run/postgresql` for a Unix socket. Several
    hosts, separated by commas, are tried in order for the one that can be written."""

    password_file: AbsolutePath | None = None
    """File that holds the password for PostgreSQL, as UTF-8; a trailing line break is dropped. Checked before the
    start, and read anew for every connection."""

    tls: Literal["auto", "verify-full", "off"] = "auto"
    """TLS to PostgreSQL. `verify-full`: always, with the server's certificate and name checked. `auto`: the same, but
    for Unix sockets and loopback addresses, where nobody is in between."""

    ca_file: AbsolutePath | None = None
    """PEM file of the authorities that may vouch for PostgreSQL, instead of the system's. Checked before the start."""

    connect_timeout: Duration = timedelta(seconds=5)
    """For a connection to PostgreSQL, TLS and authentication included; whole seconds, at least 2."""

    statement_timeout: Duration = timedelta(seconds=30)
    """For one statement of PostgreSQL: a thousand times what the longest takes, so beyond it something is wrong. A
    server that says nothing for 5 s more is given up."""

    busy_timeout: Duration = timedelta(seconds=5)
    """How long a statement waits for another process (a backup, `byokd db`) to release the database; with PostgreSQL
    also for locks, and for another daemon's connection to end."""

    upgrade_at_start: Switch = True
    """Bring an older schema up to date when the daemon starts. Off: the start is refused until `byokd db upgrade`."""

    history_retention: Duration = timedelta(days=90)
    """How long published events are kept: a quarter, for questions that come late. Unpublished ones and the last of
    each account are kept on, for the bus."""

    audit_interval: Duration = timedelta(hours=1)
    """How often the heads of the signed history are published, when something was recorded since: what is rewritten
    later than that differs from what the bus was told."""

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if self.path is None and find_spec("psycopg") is None:
            raise ValueError("PostgreSQL needs its driver, which is not installed: pip install 'byokd[postgresql]'")
        return self

    @property
    def path(self) -> Path | None:
        """The path of the database file; None with PostgreSQL."""
        found = self.url.removeprefix("sqlite:///")
        return None if found == self.url else Path(found).absolute()


class VaultSettings(_Group):
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


class NetworkSettings(_Group):
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


class RegistrationSettings(_Group):
    """Accounts that come to a customer's key."""

    wait_for_grant: DurationOrNothing = timedelta(minutes=2)
    """How long an apply waits for a grant that the vault does not know of yet, after all else is done. Longer than a
    fresh grant took where it was measured (84 s); Azure documents up to 10 min, for which nobody wants to watch a
    command line: apply again. 0 s: not at all."""

    deadline: Duration = timedelta(seconds=10)
    """For the calls that prove a key, and again for those that wrap the account key. A vault that hangs holds an apply
    so long, once, and nobody else: all calls of a healthy one take less than a second."""


class ArmSettings(_Group):
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


class CheckSettings(_Group):
    """When keys are checked.

    A revocation that the vault already enforces is published within (1 + jitter) * interval + deadline +
    confirm_after + deadline: 1.1 * 60 + 5 + 5 + 5 = 81 s by default.
    """

    interval: Duration = timedelta(seconds=60)
    """Between two checks of a healthy watch."""

    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the interval by which checks are spread, so that vaults are not asked in step."""

    deadline: Duration = timedelta(seconds=5)
    """For all calls of one check, started before the first."""

    confirm_after: Duration = timedelta(seconds=5)
    """A denial counts only if a second one, on a new connection, is seen this much later."""

    confirm_network_after: Duration = timedelta(minutes=5)
    """The same for denials by network rules, which are often about our own new address, and for vaults whose name is
    gone."""

    recheck_first: Duration = timedelta(seconds=10)
    """First wait while a version is denied; it then doubles."""

    recheck_most: Duration = timedelta(minutes=5)
    """Longest wait while a version is denied: how late a recovery is noticed at worst."""

    unverified_after: Duration = timedelta(minutes=15)
    """A version that could not be verified for this long is reported, once."""

    fail_closed_after: Duration | None = None
    """A version that could not be verified for this long makes its accounts Inaccessible, with the reason `Unverified`,
    although nothing denied the key. Unset: never, for then trouble of ours would be an outage of the customers'."""

    flap_window: Duration = timedelta(hours=1)
    """A version that recovers, or is denied for yet another reason, again within this time flips."""

    flaps_free: Annotated[int, Field(ge=1, le=100)] = 3
    """So many times it may flip before a recovery, or another reason, must be seen to last: for `recheck_first` at
    first, doubling to `recheck_most`. A key that comes and goes every few seconds then changes its accounts some 15
    times an hour. A denial of a usable version is never delayed."""

    near_expiry: Duration = timedelta(days=30)
    """A wrapping version that expires within this time is warned of, once for each expiry date."""

    clock_skew: Duration = timedelta(minutes=5)
    """How far this machine's clock may be off the vaults' before that is reported: what Entra ID puts up with."""

    vault_backoff_first: Duration = timedelta(seconds=2)
    """First wait of a vault that fails or throttles; it doubles, and one watch probes it while the rest wait."""

    vault_backoff_most: Duration = timedelta(seconds=60)
    """Longest wait of a failing vault."""

    hint_spacing: Duration = timedelta(seconds=5)
    """Between two checks of one watch that follow hints. Hints that come sooner are followed together, and a last check
    this much later sees what takes a while to reach all of a vault."""

    concurrency: Annotated[int, Field(ge=1, le=1000)] = 100
    """Checks running at once. At the bound, due checks wait in the order of their due times."""

    vault_concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    """Checks running at once against one vault."""

    @model_validator(mode="after")
    def _related(self) -> Self:
        if self.recheck_most < self.recheck_first:
            raise ValueError("recheck_most is shorter than recheck_first")
        if self.fail_closed_after is not None and self.fail_closed_after < self.unverified_after:
            raise ValueError("fail_closed_after is shorter than unverified_after: accounts would close unannounced")
        if self.vault_backoff_most < self.vault_backoff_first:
            raise ValueError("vault_backoff_most is shorter than vault_backoff_first")
        return self


class BrakeSettings(_Group):
    """The brake: holds back denials that look like our own fault. Meanwhile every use needs a live unwrap.

    It engages when at least `customers` customers, and at least `share` of them, are suspected to deny at once for
    reasons that our own fault can cause. A customer is a tenant, or a vault while there are fewer than ten tenants.
    """

    customers: Annotated[int, Field(ge=2)] = 3
    """So many customers must be suspected. Fewer are lost as any customer is, and come back by themselves."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """And this share of all customers, of an identity's, or of those looked at lately. A fault of ours meets all who
    share it; customers who revoke by chance at the same moment are few of many."""

    mode: Literal["hold", "observe"] = "hold"
    """`hold`: denials are held while it is engaged. `observe`: it engages and tells of it, and holds nothing; for
    trying out. An operator's `byokd brake engage` holds in any mode."""

    max_hold: Duration = timedelta(hours=1)
    """Longest time that a confirmed denial is held. Then it counts, if the vault still denies."""


class RewrapSettings(_Group):
    """Moving account keys to a new version."""

    settle: Duration = timedelta(minutes=15)
    """How long the previous wrap is kept, sealed: a stale or failed-over vault must not cost the key."""

    concurrency: Annotated[int, Field(ge=1, le=100)] = 32
    """Account keys being rewrapped at once. At the bound, watches take turns."""

    vault_concurrency: Annotated[int, Field(ge=1, le=100)] = 8
    """Account keys being rewrapped at once by one vault: one that hangs holds up no more than these. Each costs the
    customer's vault three calls."""

    deadline: Duration = timedelta(seconds=15)
    """For the three calls of one rewrap."""

    vault_backoff_first: Duration = timedelta(seconds=2)
    """First wait of a vault that does not answer or refuses; it doubles, and one account probes it for all of its
    watch."""

    vault_backoff_most: Duration = timedelta(seconds=60)
    """Longest wait of such a vault."""

    retry_first: Duration = timedelta(seconds=10)
    """First wait after a failed rewrap; it doubles."""

    retry_most: Duration = timedelta(minutes=10)
    """Longest wait after failed rewraps."""


class ValueSettings(_Group):
    """Protected values, and the account keys in the clear that they are read and written with."""

    max_plaintext_age: Duration = timedelta(minutes=5)
    """How old an account key in the clear may become, from the beginning of the unwrap that gave it. Each use after
    that costs the customer's vault one call."""

    most_plaintext: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Account keys held in the clear, about 1 KB each. At the bound the one that was not used for the longest goes."""

    most_bytes: Annotated[int, Field(ge=1, le=1_048_576)] = 16_384
    """Length of one protected value. Keys and signed URLs are shorter by far; files are not meant to be kept here."""

    most_per_account: Annotated[int, Field(ge=1)] = 1000
    """Protected values of one account. At the bound further ones are refused; those that are there can be changed."""


class ServiceKeySettings(_Group):
    """The service's own keys: files `system.<id>.key`, `storage.<id>.key` and `audit.<id>.key` of 32 random bytes.

    Mode 0600. The system key wraps account keys of accounts without a customer key, the storage key is the second
    layer over every stored secret, the audit key chains the record of events.
    """

    directory: AbsolutePath | None = None
    """Where they are. Unset: `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`) when a file in it is named like a
    service key, else `/etc/byokd/keys`; never both. Files that group or others can read are refused."""

    verify_concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    """Account keys that `byokd keys verify` has unwrapped at once. Each costs the customer's vault one call."""


class HttpSettings(_Group):
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


class Settings(_Group):
    """All of them."""

    service: ServiceSettings = ServiceSettings()
    store: StoreSettings = StoreSettings()
    vaults: VaultSettings = VaultSettings()
    network: NetworkSettings = NetworkSettings()
    identities: Annotated[Mapping[Name, IdentitySettings], AfterValidator(check_together)] = Field(default_factory=dict)
    """Credential sources by name, such as `[identities.platform]`."""
    registration: RegistrationSettings = RegistrationSettings()
    arm: ArmSettings = ArmSettings()
    checks: CheckSettings = CheckSettings()
    brake: BrakeSettings = BrakeSettings()
    rewrap: RewrapSettings = RewrapSettings()
    values: ValueSettings = ValueSettings()
    service_keys: ServiceKeySettings = ServiceKeySettings()
    mqtt: MqttSettings = MqttSettings()
    http: HttpSettings = HttpSettings()
    event_grid: EventGridSettings = EventGridSettings()

    @model_validator(mode="after")
    def _sources_speak_of_vaults(self) -> Self:
        """What no vault that byokd may look at is called would be passed over, silently and for ever."""
        for name, source in self.event_grid.sources.items():
            for pattern in source.vaults:
                if pattern.partition(".")[2] not in self.vaults.allowed_suffixes:
                    raise ValueError(
                        f"event_grid.sources.{name}.vaults: {pattern} is no vault under one of vaults.allowed_suffixes "
                        f"({', '.join(self.vaults.allowed_suffixes)})"
                    )
        return self

    @model_validator(mode="after")
    def _queues_can_be_read(self) -> Self:
        if flaw := flaw_of_queues(self.event_grid.queues, self.identities):
            raise ValueError(flaw)
        return self

    @model_validator(mode="after")
    def _identities_are_apart(self) -> Self:
        """Two names for one identity would let what one customer granted serve another after all."""
        named: dict[str, str] = {}
        for name, identity in self.identities.items():
            # A grant is to an application, by whatever kind, certificate or token that one proves itself.
            granted = identity.client_id or str(identity.resource_id or "")
            alike = named.setdefault(granted, name)
            if alike != name and not (identity.shared and self.identities[alike].shared):
                raise ValueError(
                    f"identities.{alike} and identities.{name} are the same identity, and not both shared: what one "
                    "customer grants it would serve another's accounts"
                )
        return self


NEEDS_RESTART = frozenset(
    {
        "service.instance",
        "service.socket",
        "store",
        "service_keys",
        "http.listen",
        "event_grid.listen",
        "event_grid.waiting",
        "event_grid.head_timeout",
    }
)
"""Settings, and whole sections, that are read only when the daemon starts: who it is, what it stores in and listens on,
the keys it has proved. A reload that would change one of them is refused. All others are taken."""

TAKEN_AT_ONCE = frozenset({"store.history_retention"})
"""Settings of such a section that a reload takes all the same."""
