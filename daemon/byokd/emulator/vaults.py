"""A vault, its keys, and who may use them. State and its rules; no I/O, and the time is an argument."""

import secrets
from dataclasses import dataclass, field, replace
from typing import Final

from byokd.emulator import refusals
from byokd.emulator.material import Material
from byokd.emulator.subscriptions import Subscription
from byokd.emulator.vocabulary import Access, KeyType, Network, Permission

DAY_SECONDS: Final = 86_400
RSA_OPERATIONS: Final = ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey")
EC_OPERATIONS: Final = ("sign", "verify")


@dataclass(slots=True)
class KeyVersion:
    """One version of a key; `nbf` and `exp` are epoch seconds or unset."""

    id: str
    kty: KeyType
    material: Material
    key_ops: tuple[str, ...]
    created: int
    updated: int
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def in_its_time(self, now: float) -> bool:
        """Whether `now` lies within nbf and exp."""
        return (self.nbf is None or self.nbf <= now) and (self.exp is None or now < self.exp)


@dataclass(slots=True)
class Key:
    """A key: its versions, oldest first. Until `settled` a change of the whole key still spreads in the service."""

    name: str
    versions: list[KeyVersion] = field(default_factory=list)
    settled: float = 0.0
    deleted: int | None = None
    purges: int | None = None

    @property
    def newest(self) -> KeyVersion:
        """The version that GET without a version shows, enabled or not."""
        return self.versions[-1]

    def version(self, version_id: str) -> KeyVersion | None:
        """The version of that id, or the newest for an empty one."""
        if not version_id:
            return self.newest
        return next((one for one in self.versions if one.id == version_id.lower()), None)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the maker of a key or version chooses; None means the default of the service."""

    key_ops: tuple[str, ...] | None = None
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission of one principal, for the whole vault or one key, in force from `start` until `end`.

    `access` is what it was given by: it counts while the vault goes by that.
    """

    object_id: str
    permission: Permission
    key: str | None
    start: float
    end: float | None = None
    access: Access = Access.ROLES

    def covers(self, permission: Permission, key: str | None, now: float) -> bool:
        """Whether this grant allows `permission` on `key` at `now`."""
        in_force = self.start <= now and (self.end is None or now < self.end)
        return in_force and permission == self.permission and (self.key is None or self.key == (key or "").lower())


@dataclass(slots=True)
class Vault:
    """A vault. `settle_seconds` is how long the deletion or recovery of a key takes to show."""

    name: str
    tenant_id: str
    region: str
    subscription_id: str
    resource_group: str
    soft_delete_days: int = 90
    soft_delete: bool = True
    purge_protection: bool = False
    settle_seconds: float = 0.0
    network: Network = Network.OPEN
    access: Access = Access.ROLES
    deleted: int | None = None
    tokens_from: int = 0
    keys: dict[str, Key] = field(default_factory=dict)
    deleted_keys: dict[str, Key] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The name that clients ask for."""
        return f"{self.name}.vault.azure.net"

    @property
    def resource_id(self) -> str:
        """The ARM resource of the vault."""
        group = f"/subscriptions/{self.subscription_id}/resourcegroups/{self.resource_group}"
        return f"{group}/providers/microsoft.keyvault/vaults/{self.name}"

    @property
    def recovery_level(self) -> str:
        """The `recoveryLevel` of every key: no `Purgeable` in it means purge protection."""
        if not self.soft_delete:
            return "Purgeable"
        level = "Recoverable" if self.purge_protection else "Recoverable+Purgeable"
        return level if self.soft_delete_days == 90 else f"Customized{level}"  # noqa: PLR2004 - the service's default

    def allows(self, object_id: str, permission: Permission, key: str | None, now: float) -> bool:
        """Whether a principal may do something now."""
        return any(
            one.access is self.access and one.object_id == object_id and one.covers(permission, key, now)
            for one in self.grants
        )

    @property
    def arm_id(self) -> str:
        """`resource_id` as Event Grid spells it: a resource's name is the same in any case."""
        group = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/Microsoft.KeyVault/vaults/{self.name}"

    def prune(self, now: float) -> None:
        """Forget the grants that have ended."""
        self.grants = [one for one in self.grants if one.end is None or one.end > now]

    def grant(self, object_id: str, permissions: tuple[Permission, ...], key: str | None, start: float) -> None:
        """Give permissions from `start` on."""
        scope = key.lower() if key else None
        self.grants += [Grant(object_id, permission, scope, start, access=self.access) for permission in permissions]

    def revoke(self, object_id: str, permissions: tuple[Permission, ...], key: str | None, end: float) -> int:
        """Take permissions away at `end`; the number of grants that this ends. `key` None means wherever given."""
        scope, ended = key.lower() if key else None, 0
        for at, one in enumerate(self.grants):
            meant = one.object_id == object_id and one.permission in permissions and scope in (None, one.key)
            if meant and one.access is self.access and (one.end is None or one.end > end):
                self.grants[at], ended = replace(one, end=end), ended + 1
        return ended

    def find(self, name: str, now: float) -> Key | None:
        """A key that can be used: there, and not just being recovered."""
        key = self.keys.get(name.lower())
        return key if key is not None and key.settled <= now else None

    def find_deleted(self, name: str, now: float) -> Key | None:
        """A deleted key that can be seen: deleted long enough ago, and not yet due for purge."""
        key = self.deleted_keys.get(name.lower())
        if key is not None and key.purges is not None and key.purges <= now:
            del self.deleted_keys[name.lower()]
            return None
        return key if key is not None and key.settled <= now else None

    def add_version(
        self, name: str, *, kty: KeyType, material: Material, attributes: Attributes, now: float
    ) -> KeyVersion:
        """Make a key, or a new version of it; Refusal when a deleted key holds the name."""
        held = self.deleted_keys.get(name.lower())
        if held is not None and held.settled > now:
            raise refusals.name_is_being_deleted(name)
        if self.find_deleted(name, now) is not None:
            raise refusals.name_is_deleted(name)
        operations = attributes.key_ops
        if operations is None:
            operations = RSA_OPERATIONS if kty in (KeyType.RSA, KeyType.RSA_HSM) else EC_OPERATIONS
        version = KeyVersion(
            id=secrets.token_hex(16),
            kty=kty,
            material=material,
            key_ops=operations,
            created=int(now),
            updated=int(now),
            enabled=attributes.enabled,
            nbf=attributes.nbf,
            exp=attributes.exp,
            tags=dict(attributes.tags),
        )
        self.keys.setdefault(name.lower(), Key(name)).versions.append(version)
        return version

    def delete_key(self, name: str, now: float) -> Key:
        """Soft-delete a key, or without soft-delete drop it; Refusal when there is none."""
        if self.find(name, now) is None:
            raise refusals.key_not_found(name)
        key = self.keys.pop(name.lower())
        key.deleted, key.settled = int(now), now + self.settle_seconds
        key.purges = int(now) + self.soft_delete_days * DAY_SECONDS
        if self.soft_delete:
            self.deleted_keys[name.lower()] = key
        return key

    def recover_key(self, name: str, now: float) -> Key:
        """Bring a soft-deleted key back; Refusal when there is none."""
        if self.find_deleted(name, now) is None:
            raise refusals.deleted_key_not_found(name)
        key = self.deleted_keys.pop(name.lower())
        key.deleted, key.purges, key.settled = None, None, now + self.settle_seconds
        self.keys[name.lower()] = key
        return key

    def purge_key(self, name: str, now: float) -> None:
        """Drop a soft-deleted key for ever; Refusal when there is none or the vault is protected."""
        if self.find_deleted(name, now) is None:
            raise refusals.deleted_key_not_found(name)
        if self.purge_protection:
            raise refusals.purge_protected()
        del self.deleted_keys[name.lower()]
