"""The rows as they are stored, read past the code that is judged."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.ports import KeyTarget
from simulation.world import SimWorld

_VERSIONS = """
    SELECT v.id, v.watch, w.identity, w.tenant, w.host, w.key_name, w.pinned, v.version, v.is_current, v.retired_at,
        v.outcome, v.reason, v.number, v.suspicion_reason, v.suspicion_since, v.unverified_reason, v.unverified_told,
        v.held_since, v.probe_wrapped
    FROM wrapping_versions v JOIN watches w ON w.id = v.watch ORDER BY v.id"""
_ACCOUNTS = """
    SELECT id, incarnation, sequence, generation, watch, wrapping_version, state, reason, followed
    FROM accounts ORDER BY id"""
_KEYS = """
    SELECT k.account, a.incarnation, k.generation, k.key_identifier, k.wrapping_version, k.sealed, k.storage_key,
        k.system_key, k.superseded_at
    FROM account_keys k JOIN accounts a ON a.id = k.account ORDER BY k.account, k.generation"""


@dataclass(frozen=True, slots=True)
class VersionRow:
    id: int
    watch: int
    target: KeyTarget
    pinned: bool
    current: bool
    retired: bool
    outcome: str
    reason: str | None
    number: int
    suspicion: str | None
    suspected: datetime | None
    unverified: str | None
    told: bool
    held: datetime | None
    probe: bytes = field(repr=False)

    @property
    def is_well(self) -> bool:
        return self.outcome == "Usable" and self.suspicion is None and self.unverified is None


@dataclass(frozen=True, slots=True)
class AccountRow:
    id: AccountId
    incarnation: str
    sequence: int
    generation: int
    watch: int | None
    version: int | None
    state: str
    reason: str | None
    followed: int


@dataclass(frozen=True, slots=True)
class KeyRow:
    account: AccountId
    incarnation: str
    generation: int
    identifier: str | None
    version: int | None
    sealed: bytes
    storage_key: str
    system_key: str | None
    superseded: datetime | None


class Rows:
    """Versions, accounts and wrapped keys, as of the last commit and of the one before."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._raw: dict[int, tuple[object, ...]] = {}
        self._ids: dict[str, AccountId] = {}
        self._targets: dict[tuple[str, ...], KeyTarget] = {}
        self.before: dict[int, VersionRow] = {}
        self.versions: dict[int, VersionRow] = {}
        self.accounts: dict[AccountId, AccountRow] = {}
        self.keys: list[KeyRow] = []

    def read(self) -> None:
        execute = self._world.raw.execute
        self.before, versions = self.versions, {}
        for row in execute(_VERSIONS):
            known = self.before.get(row[0])
            versions[row[0]] = known if known is not None and self._raw[row[0]] == row else self._version(row)
            self._raw[row[0]] = row
        self.versions = versions
        self.accounts = {
            (account := self._account(row[0])): AccountRow(account, *row[1:]) for row in execute(_ACCOUNTS)
        }
        self.keys = [KeyRow(self._account(row[0]), *row[1:8], instant(row[8])) for row in execute(_KEYS)]

    def _version(self, row: tuple) -> VersionRow:  # type: ignore[type-arg]
        place = row[2:8]
        target = self._targets.get(place)
        if target is None:
            identity, tenant, host, name, _, version = place
            key = KeyIdentifier(VaultHost(host), name, KeyVersion(version))
            target = self._targets[place] = KeyTarget(IdentityName(identity), TenantId(tenant), key)
        return VersionRow(
            row[0], row[1], target, bool(row[6]), bool(row[8]), row[9] is not None, *row[10:14], instant(row[14]),
            row[15], bool(row[16]),
            instant(row[17]), row[18]
        )  # fmt: skip

    def _account(self, text: str) -> AccountId:
        account = self._ids.get(text)
        if account is None:
            account = self._ids[text] = AccountId.parse(text)
        return account


def instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


SECOND = timedelta(seconds=1)
