"""The customers' vaults with a log of every call, and what may stand between them and byokd."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from byokd.domain.answers import Evidence, NoAnswer, Refused
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import Clock, KeyTarget
from simulation.life import Life
from simulation.trace import Trace
from virtual.vaults import (
    OPERATIONS,
    PROBE_BYTES,
    Mishap,
    Operation,
    SimulatedKeyService,
    SimulatedVaults,
    Vault,
    Way,
)

DENIALS = frozenset({*map(str, RefusalKind), "wrong"})
"""Outcomes by which a vault itself denies."""


@dataclass(frozen=True, slots=True)
class Look:
    """A call as the vault saw it. `subject`: "probe", or the digest of the account whose key it is; None for GET.

    `wrapped` is what was to be unwrapped: each watch has a probe of its own, even of one and the same version.
    """

    began: float
    ended: float
    operation: Operation
    way: Way
    target: KeyTarget
    subject: str | None
    outcome: str
    life: int
    wrapped: bytes


@dataclass(slots=True)
class SimVault(Vault):
    """A vault that can be gone altogether, and remembers when anything about it last changed."""

    made: dict[str, int] = field(default_factory=dict)
    gone: bool = False
    touched: float = 0.0

    def create(self, name: str = "media-key") -> KeyIdentifier:
        """See `Vault.create`; the order in which versions were made is kept."""
        identifier = Vault.create(self, name)
        self.made[self.keys[name].newest.id] = len(self.made)
        return identifier

    rotate = create

    def touch(self) -> None:
        self.touched = asyncio.get_running_loop().time()

    @property
    def is_troubled(self) -> bool:
        """Whether it does not answer who asks, or not soon."""
        return bool(self.faults) or self.gone or self.blocked or self.latency > 0.5

    def truth(self, target: KeyTarget) -> RefusalKind | Reason | None:
        """What an unwrap of what this version wrapped gives, but for bad luck; None: it opens."""
        return Reason.NAME_NOT_RESOLVED if self.gone else self.refusal("unwrapKey", target)


@dataclass(slots=True)
class Between:
    """What stands between byokd and all vaults."""

    silence: Reason | Mishap | None = None
    identities: dict[IdentityName, RefusalKind | Reason] = field(default_factory=dict)
    touched: float = 0.0

    def touch(self) -> None:
        self.touched = asyncio.get_running_loop().time()


class SimVaults(SimulatedVaults):
    """All vaults, and everything that was ever asked of them."""

    def __init__(self, clock: Clock, trace: Trace, *, seed: int) -> None:
        super().__init__(clock, seed=seed)
        self.trace = trace
        self.life = Life(0, 0.0)
        self.between = Between()
        self.probes: defaultdict[KeyTarget, list[Look]] = defaultdict(list)
        self.uses: defaultdict[str, list[Look]] = defaultdict(list)
        self.refused: dict[KeyTarget, Look] = {}
        self.wraps: dict[bytes, tuple[str, bytes]] = {}
        self.made: dict[str, int] = {}
        self.proved: dict[bytes, KeyTarget] = {}
        self.calls = 0
        self.on_defect: Callable[[], None] = lambda: None
        self.on_probe: Callable[[Look], None] = lambda _: None
        self.probe = SimKeyService(self, self._random, way="probe")
        self.kept = SimKeyService(self, self._random, way="kept")
        self.fresh = SimKeyService(self, self._random, way="fresh")

    def open(self, name: str, tenant: TenantId, identities: tuple[IdentityName, ...]) -> SimVault:
        """A customer opens a vault and lets these identities use it."""
        grants = dict.fromkeys(identities, OPERATIONS)
        vault = SimVault(
            VaultHost(f"{name}.vault.azure.net"), self._clock, self._random, tenant, grants=grants, made=self.made
        )
        self.vaults[vault.host] = vault
        return vault

    def tag(self, key: KeyIdentifier | None, account: AccountId) -> None:
        """The customer names an account in the tags of what GET shows of a key, where there is such a key."""
        version = None if key is None else self.vaults[key.host].version(key)
        if version is not None:
            version.accounts |= {account}

    def truth(self, target: KeyTarget) -> RefusalKind | Reason | None:
        """What an unwrap gives in the end: refusal, no answer (a reason), or None where it opens."""
        if isinstance(self.between.silence, Reason):
            return self.between.silence
        if self.between.silence is not None:
            return Reason.TIMED_OUT
        if (fate := self.between.identities.get(target.identity)) is not None:
            return fate
        vault = self.vaults[target.key.host]
        assert isinstance(vault, SimVault)
        return vault.truth(target)

    def log(self, look: Look) -> None:
        self.calls += 1
        key = look.target.key
        self.trace.note(
            f"vault {look.operation} {key.host.partition('.')[0]}/{key.name}/{(key.version or '')[:6]}"
            f" {look.target.identity} {look.way} {(look.subject or '')[:6]} {look.outcome}"
        )
        self.trace.count(f"vault: {look.outcome}")
        if look.operation != "unwrapKey" or look.outcome == "cut":
            return
        if look.subject == "probe":
            self.probes[look.target].append(look)
            self.on_probe(look)
        elif look.subject is not None:
            self.uses[look.subject].append(look)
        if look.outcome in DENIALS:
            self.refused[look.target] = look


class SimKeyService(SimulatedKeyService):
    """The port, for one way of calling."""

    _world: SimVaults

    async def _call(self, operation: Operation, target: KeyTarget, value: bytes) -> Any:  # noqa: ANN401 - as the port
        world, life = self._world, self._world.life
        life.pass_by(f"vault {operation}")
        vault = world.vaults[target.key.host]
        loop = asyncio.get_running_loop()
        known = (target.key.version or "", value) if operation == "wrapKey" else world.wraps.get(value)
        subject = _subject(known)
        look = Look(loop.time(), 0.0, operation, self._way, target, subject, "cut", life.number, value)
        answer: object = None
        try:
            with world.counted(vault):
                answer = await self._fated(vault, operation, target, value)
            look = replace(look, outcome=self._outcome(operation, answer, known))
        except RuntimeError:
            world.on_defect()
            raise
        finally:
            world.log(replace(look, ended=loop.time()))
        if operation == "wrapKey" and isinstance(answer, bytes):
            world.wraps[answer] = (target.key.version or "", value)
        if operation == "unwrapKey" and look.outcome == "ok":
            world.proved[value] = target
        life.pass_by(f"vault {operation} answered")
        return answer

    def _outcome(self, operation: Operation, answer: object, known: tuple[str, bytes] | None) -> str:
        if isinstance(answer, Refused):
            return str(answer.kind)
        if isinstance(answer, NoAnswer):
            return str(answer.reason)
        if operation == "unwrapKey" and (known is None or answer != known[1]):
            return "wrong"
        return "ok"

    async def _fated(self, vault: Vault, operation: Operation, target: KeyTarget, value: bytes) -> Any:  # noqa: ANN401
        between = self._world.between
        if between.silence is Mishap.HANG:
            await asyncio.Event().wait()
        fate = between.identities.get(target.identity) if between.silence is None else between.silence
        if fate is None:
            assert isinstance(vault, SimVault)
            if not vault.gone:
                return await self._answer(vault, operation, target, value)
            fate = Reason.NAME_NOT_RESOLVED
        await asyncio.sleep(vault.latency)
        if isinstance(fate, RefusalKind):
            return Refused(fate, Evidence(operation, status=403))
        assert isinstance(fate, Reason)
        return NoAnswer(fate, Evidence(operation))


def _subject(known: tuple[str, bytes] | None) -> str | None:
    if known is None:
        return None
    return "probe" if len(known[1]) == PROBE_BYTES else known[1][32:64].hex()


def stream_of(random: Random) -> Random:
    """A stream of chance of its own, so that what one part draws changes nothing for the others."""
    return Random(random.getrandbits(64))  # noqa: S311 - repeatable
