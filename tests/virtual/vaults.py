"""Customers' vaults, simulated at the KeyService port. `test_contract.py` holds them to the real thing."""

import asyncio
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from random import Random
from typing import Any, Literal

from byokd.domain.answers import WRAPPING_OPERATIONS, Evidence, KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import Clock, KeyTarget

Operation = Literal["get", "wrapKey", "unwrapKey"]
Way = Literal["probe", "kept", "fresh"]
OPERATIONS: frozenset[Operation] = frozenset({"get", "wrapKey", "unwrapKey"})
IDENTITY = IdentityName("platform")
TENANT = TenantId("11111111-2222-3333-4444-555555555555")
SLOWLY = 4.0
"""Seconds of a call that is slow but is answered."""

PROBE_BYTES = 32
"""What is wrapped to be a probe has 32 bytes, an account's payload has 72."""


class Mishap(StrEnum):
    """Bad luck that is neither a refusal nor a lack of an answer."""

    HANG = auto()
    SLOW = auto()
    WRONG_VALUE = auto()
    STALE = auto()
    DEFECT = auto()


@dataclass(slots=True)
class Fault:
    """What strikes the next `count` calls of these operations; None: all until it is cleared."""

    answer: RefusalKind | Reason | Mishap
    operations: frozenset[Operation] = OPERATIONS
    count: int | None = None
    version: KeyVersion | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the vault saw it; `outcome` is "ok", "wrong" or what was answered instead.

    `time` is when it began, `ended` when its answer was given.
    """

    time: float
    operation: Operation
    way: Way
    version: KeyVersion | None
    probe: bool
    outcome: str
    ended: float = 0.0


@dataclass(slots=True)
class Version:
    id: KeyVersion
    created: datetime
    enabled: bool = True
    operations: frozenset[str] = WRAPPING_OPERATIONS
    not_before: datetime | None = None
    expires: datetime | None = None
    wraps: dict[bytes, bytes] = field(default_factory=dict)
    accounts: frozenset[AccountId] = frozenset()


@dataclass(slots=True)
class Key:
    versions: list[Version]
    deleted: bool = False
    type: str = "RSA"
    recovery_level: str | None = "Recoverable"

    @property
    def newest(self) -> Version:
        return self.versions[-1]


@dataclass(slots=True)
class Vault:
    """One vault; tests change it as a customer would."""

    host: VaultHost
    clock: Clock
    random: Random
    tenant: TenantId = TENANT
    keys: dict[str, Key] = field(default_factory=dict)
    grants: dict[IdentityName, frozenset[Operation]] = field(default_factory=lambda: {IDENTITY: OPERATIONS})
    blocked: bool = False
    inner_code: str | None = None
    latency: float = 0.02
    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    def create(self, name: str = "media-key") -> KeyIdentifier:
        """A new key, or a new version of the one of that name; give its versionless identifier."""
        created = self.clock.now().replace(microsecond=0)
        version = Version(KeyVersion(f"{self.random.getrandbits(128):032x}"), created)
        self.keys.setdefault(name, Key([])).versions.append(version)
        return KeyIdentifier(self.host, name)

    rotate = create

    def key(self, name: str = "media-key") -> Key:
        return self.keys[name]

    def enable(self, name: str = "media-key", *, enabled: bool = True, version: int | None = None) -> None:
        """Enable or disable all versions, or the one of that index."""
        versions = self.keys[name].versions
        for one in versions if version is None else [versions[version]]:
            one.enabled = enabled

    def disable(self, name: str = "media-key", *, version: int | None = None) -> None:
        self.enable(name, enabled=False, version=version)

    def tag(self, *accounts: AccountId, name: str = "media-key") -> None:
        """Name accounts in the newest version's tags, beside those that are named there already."""
        newest = self.keys[name].newest
        newest.accounts |= frozenset(accounts)

    def delete(self, name: str = "media-key") -> None:
        self.keys[name].deleted = True

    def recover(self, name: str = "media-key") -> None:
        self.keys[name].deleted = False

    def change(self, name: str = "media-key", **attributes: Any) -> None:  # noqa: ANN401 - of `Version`
        """Change the newest version."""
        for attribute, value in attributes.items():
            setattr(self.keys[name].newest, attribute, value)

    def block(self) -> None:
        self.blocked = True

    def move(self, tenant: TenantId) -> None:
        self.tenant = tenant

    def revoke(self, *operations: Operation) -> None:
        self.grants[IDENTITY] = self.grants.get(IDENTITY, OPERATIONS) - frozenset(operations or OPERATIONS)

    def grant(self) -> None:
        self.grants[IDENTITY] = OPERATIONS

    def strike(
        self,
        answer: RefusalKind | Reason | Mishap,
        *operations: Operation,
        count: int | None = None,
        version: KeyVersion | None = None,
    ) -> None:
        self.faults.append(Fault(answer, frozenset(operations) or OPERATIONS, count, version))

    def heal(self) -> None:
        """End all bad luck, and let the identity use every key again."""
        self.faults.clear()
        self.blocked = False
        self.tenant = TENANT
        self.grant()
        for key in self.keys.values():
            key.deleted = False
            for version in key.versions:
                version.enabled, version.operations = True, WRAPPING_OPERATIONS
                version.not_before = version.expires = None

    def called(self, *operations: Operation, since: float = 0.0) -> list[Call]:
        return [call for call in self.calls if call.time >= since and (not operations or call.operation in operations)]

    def struck(self, operation: Operation, version: KeyVersion | None) -> RefusalKind | Reason | Mishap | None:
        """Use up and give the oldest fault that meets an operation."""
        for fault in self.faults:
            if operation in fault.operations and fault.version in {None, version}:
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count == 0:
                        self.faults.remove(fault)
                return fault.answer
        return None

    def refusal(self, operation: Operation, target: KeyTarget) -> RefusalKind | None:
        """What the vault says before it uses a key: tenant, network, permission, key, state; in this order."""
        if target.tenant != self.tenant:
            return RefusalKind.WRONG_TENANT
        if self.blocked:
            return RefusalKind.NETWORK_BLOCKED
        if operation not in self.grants.get(target.identity, frozenset()):
            return RefusalKind.ACCESS_DENIED
        version = self.version(target.key)
        if version is None:
            return RefusalKind.NOT_FOUND
        return None if operation == "get" else self._unfit(operation, version)

    def _unfit(self, operation: Operation, version: Version) -> RefusalKind | None:
        now = self.clock.now()
        if operation == "unwrapKey" and not version.enabled:
            return RefusalKind.KEY_DISABLED
        if operation not in version.operations:
            return RefusalKind.OPERATION_FORBIDDEN
        early = version.not_before is not None and now < version.not_before
        late = version.expires is not None and now >= version.expires
        return RefusalKind.ACCESS_DENIED if operation == "wrapKey" and (early or late) else None

    def version(self, identifier: KeyIdentifier) -> Version | None:
        key = self.keys.get(identifier.name)
        if key is None or key.deleted:
            return None
        if identifier.version is None:
            return key.newest
        return next((one for one in key.versions if one.id == identifier.version), None)


class SimulatedVaults:
    """All vaults, and the three ways to them."""

    def __init__(self, clock: Clock, *, seed: int = 0) -> None:
        self._clock = clock
        self._random = Random(seed)  # noqa: S311 - repeatable
        self.vaults: dict[VaultHost, Vault] = {}
        self.running = 0
        self.most_running = 0
        self.probe = SimulatedKeyService(self, self._random, way="probe")
        self.kept = SimulatedKeyService(self, self._random, way="kept")
        self.fresh = SimulatedKeyService(self, self._random, way="fresh")

    def make(self, name: str = "contoso") -> Vault:
        vault = Vault(VaultHost(f"{name}.vault.azure.net"), self._clock, self._random)
        self.vaults[vault.host] = vault
        return vault

    def all(self) -> Iterable[Vault]:
        return self.vaults.values()

    @contextmanager
    def counted(self, vault: Vault):  # noqa: ANN201 - a context manager
        """Count the calls that run at once."""
        for place in (self, vault):
            place.running += 1
            place.most_running = max(place.most_running, place.running)
        try:
            yield
        finally:
            self.running -= 1
            vault.running -= 1


class SimulatedKeyService:
    """The port. The way is only noted down."""

    def __init__(self, world: SimulatedVaults, random: Random, *, way: Way) -> None:
        self._world = world
        self._random = random
        self._way = way

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        return await self._call("get", target, b"")

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        return await self._operate("wrapKey", target, plaintext)

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        return await self._operate("unwrapKey", target, wrapped)

    async def _operate(self, operation: Operation, target: KeyTarget, value: bytes) -> bytes | Refused | NoAnswer:
        if target.key.version is None:
            raise ValueError(f"{operation} needs a version")
        return await self._call(operation, target, value)

    async def _call(self, operation: Operation, target: KeyTarget, value: bytes):  # noqa: ANN202 - as the port
        vault = self._world.vaults[target.key.host]
        now = asyncio.get_running_loop().time()
        with self._world.counted(vault):
            answer = await self._answer(vault, operation, target, value)
        outcome = "ok"
        if isinstance(answer, Refused):
            outcome = answer.kind
        elif isinstance(answer, NoAnswer):
            outcome = answer.reason
        elif operation == "unwrapKey" and not self._is_right(vault, target, value, answer):
            outcome = "wrong"
        plaintext = value if operation == "wrapKey" else self._plaintext(vault, target, value)
        probe = plaintext is not None and len(plaintext) == PROBE_BYTES
        ended = asyncio.get_running_loop().time()
        vault.calls.append(Call(now, operation, self._way, target.key.version, probe, outcome, ended))
        return answer

    async def _answer(self, vault: Vault, operation: Operation, target: KeyTarget, value: bytes):  # noqa: ANN202
        fault = vault.struck(operation, target.key.version)
        if fault is Mishap.DEFECT:
            raise RuntimeError("something that nobody thought of")
        if fault is Mishap.HANG:
            await asyncio.Event().wait()
        await asyncio.sleep(SLOWLY if fault is Mishap.SLOW else vault.latency)
        if isinstance(fault, Reason):
            code = "IdentityUnknown" if fault is Reason.TOKEN_UNAVAILABLE else None
            return NoAnswer(fault, Evidence(operation, code=code))
        kind = fault if isinstance(fault, RefusalKind) else vault.refusal(operation, target)
        if kind is not None:
            status = 404 if kind is RefusalKind.NOT_FOUND else 403
            return Refused(kind, Evidence(operation, status=status, inner_code=vault.inner_code))
        version = vault.version(target.key)
        assert version is not None
        if operation == "get":
            stale = (
                fault is Mishap.STALE and target.key.version is None and len(vault.key(target.key.name).versions) > 1
            )
            return facts_of(vault.keys[target.key.name], vault.keys[target.key.name].versions[-2] if stale else version)
        if operation == "wrapKey":
            wrapped = self._random.randbytes(256)
            version.wraps[wrapped] = value
            return wrapped
        if value not in version.wraps:
            return Refused(RefusalKind.BAD_REQUEST, Evidence(operation, status=400))
        plaintext = version.wraps[value]
        return self._random.randbytes(len(plaintext)) if fault is Mishap.WRONG_VALUE else plaintext

    def _plaintext(self, vault: Vault, target: KeyTarget, wrapped: bytes) -> bytes | None:
        key = vault.keys.get(target.key.name)
        versions = [] if key is None else key.versions
        return next((one.wraps[wrapped] for one in versions if wrapped in one.wraps), None)

    def _is_right(self, vault: Vault, target: KeyTarget, wrapped: bytes, answer: object) -> bool:
        return answer == self._plaintext(vault, target, wrapped)


def facts_of(key: Key, version: Version) -> KeyFacts:
    return KeyFacts(
        version=version.id,
        key_type=key.type,
        bits=2048,
        enabled=version.enabled,
        operations=version.operations,
        created=version.created,
        not_before=version.not_before,
        expires=version.expires,
        recovery_level=key.recovery_level,
        accounts=version.accounts,
    )
