"""No false alarm, no recovery and no adoption without proof: each verdict rests on what the vault itself answered."""

import asyncio
from bisect import bisect_left

from byokd.domain.vocabulary import Reason, RefusalKind
from simulation.rows import Rows, VersionRow
from simulation.trace import ViolatedError
from simulation.vaults import DENIALS, Look, SimVault
from simulation.world import SimWorld

ALARM = "2 no false alarm"
PROOF = "6 only proof changes a state"
BRAKE = "2 our own fault is held"
ADOPTED = "1 only a proved newer version is adopted"
PUNCTUAL = 0.98
FRESH = 20.0
"""Seconds within which a verdict rests on a look: the deadline of a check or of a registration, and a little."""


class VerdictOracle:
    """Compares every committed change of a verdict with the vault's own log."""

    def __init__(self, world: SimWorld, rows: Rows) -> None:
        self._world = world
        self._rows = rows
        self._losses: list[float] = []
        self._adopted: dict[int, list[str]] = {}

    def lost(self) -> None:
        """A write was lost, or may have been: what a check saw then may be unknown to the store."""
        self._losses.append(asyncio.get_running_loop().time())

    def on_commit(self) -> None:
        for row in self._rows.versions.values():
            before = self._rows.before.get(row.id)
            if before is row:
                continue
            self._count(before, row)
            if before is None:
                self._check_adopted(row)
            elif (before.outcome, before.reason) != (row.outcome, row.reason):
                if row.outcome == "Usable":
                    self._check_recovered(row)
                else:
                    self._check_denied(row)
                    self._check_brake(before, row)

    def _count(self, before: VersionRow | None, row: VersionRow) -> None:
        count = self._world.trace.count
        if before is None:
            return
        if before.suspicion is None and row.suspicion is not None:
            count("suspicion")
        if before.suspicion is not None and row.suspicion is None and before.outcome == row.outcome == "Usable":
            count("suspicion dropped")
        if before.unverified is None and row.unverified is not None:
            count(f"unverified: {row.unverified}")
        if row.told and not before.told:
            count("unverified told")
        if before.outcome != row.outcome or before.reason != row.reason:
            count(f"denied: {row.reason}" if row.outcome == "Denied" else "recovered")
        if row.held and not before.held:
            count("denial held by the brake")
        if row.retired and not before.retired:
            count("version retired")

    def _looks(self, row: VersionRow) -> list[Look]:
        return [look for look in self._world.vaults.probes[row.target] if look.wrapped == row.probe]

    def _check_recovered(self, row: VersionRow) -> None:
        now = asyncio.get_running_loop().time()
        looks = self._looks(row)
        if not any(look.outcome == "ok" and look.ended >= now - FRESH for look in looks[-20:]):
            raise ViolatedError(PROOF, f"{row.target.key} became Usable, but its probe was not opened")

    def _check_adopted(self, row: VersionRow) -> None:
        now = asyncio.get_running_loop().time()
        adopted = self._adopted.setdefault(row.watch, [])
        version = str(row.target.key.version)
        if not any(look.outcome == "ok" and look.ended >= now - FRESH for look in self._looks(row)[-20:]):
            raise ViolatedError(ADOPTED, f"{row.target.key} did not prove itself")
        if adopted:
            self._world.trace.count("adoption")
            if row.pinned:
                raise ViolatedError(ADOPTED, f"{row.target.key} was adopted in the place of a pinned version")
            made = self._world.vaults.made
            if made[version] <= made[adopted[-1]]:
                raise ViolatedError(ADOPTED, f"{row.target.key} is older than the one before")
        adopted.append(version)

    def _check_denied(self, row: VersionRow) -> None:
        looks = [look for look in self._looks(row) if look.outcome in DENIALS or look.outcome == "ok"]
        streak: list[Look] = []
        for look in reversed(looks):
            if look.outcome == "ok":
                if self._is_known(look):
                    break
                continue
            streak.append(look)
        if row.reason != Reason.NETWORK_BLOCKED:
            streak = [look for look in streak if look.outcome != Reason.NETWORK_BLOCKED]
        checks = self._world.settings.checks
        wait = checks.confirm_network_after if row.reason == Reason.NETWORK_BLOCKED else checks.confirm_after
        if not streak:
            raise ViolatedError(ALARM, f"{row.target.key}: {row.reason}, but its vault never denied it")
        first, needed = streak[-1], wait.total_seconds()
        needed = (needed - self._excused(first.ended)) * PUNCTUAL
        late = [look for look in streak if look.ended - first.ended >= needed]
        looked = [f"{look.ended:.3f} {look.outcome} {look.way}" for look in looks[-6:]]
        if not late:
            raise ViolatedError(ALARM, f"{row.target.key}: {row.reason} on looks too close to each other: {looked}")
        before = self._rows.before[row.id]
        if before.held is not None and self._world.confirmed_by_operator:
            return
        if not any(look.way == "fresh" for look in late):
            raise ViolatedError(
                ALARM, f"{row.target.key}: {row.reason} was not confirmed on a new connection: {looked}"
            )
        if late[0].ended < asyncio.get_running_loop().time() - FRESH:
            raise ViolatedError(ALARM, f"{row.target.key}: {row.reason}, but the last denials are {looked}")

    def _check_brake(self, before: VersionRow, row: VersionRow) -> None:
        """Our own credential refused everywhere is our own fault: no denial by it counts before the hold is over."""
        world, identity = self._world, row.target.identity
        fate = world.vaults.between.identities.get(identity)
        if not isinstance(fate, RefusalKind) or row.reason != Reason.ACCESS_DENIED or world.confirmed_by_operator:
            return
        vault = world.vaults.vaults[row.target.key.host]
        assert isinstance(vault, SimVault)
        if vault.truth(row.target) is not None or world.since_loss.get(row.id) != "Usable":
            return
        hold = world.settings.brake.max_hold
        if before.held is not None and world.clock.now() - before.held >= hold:
            return
        struck = {
            (other.target.tenant, other.target.key.host)
            for other in self._rows.versions.values()
            if other.target.identity == identity and (other.id == row.id or self._is_counted(other))
        }
        tenants, hosts = {tenant for tenant, _ in struck}, {host for _, host in struck}
        world.trace.count("denials by our own fault that the brake need not hold", 1)
        if len(tenants) > 1 and len(hosts) >= world.settings.brake.customers and world.life.began < world.lost_at:
            raise ViolatedError(
                BRAKE, f"{row.target.key} was denied, though {identity} is refused by {len(hosts)} vaults"
            )

    def _is_counted(self, row: VersionRow) -> bool:
        """Whether our own fault struck a customer, and byokd can know: it is stored, or its vault answers who asks."""
        if self._world.since_loss.get(row.id) != "Usable":
            return False
        before = self._rows.before.get(row.id)
        vault = self._world.vaults.vaults[row.target.key.host]
        assert isinstance(vault, SimVault)
        is_asked = not (vault.is_troubled or row.retired) and vault.truth(row.target) is None
        return (before is not None and before.suspicion is not None) or is_asked

    def _excused(self, since: float) -> float:
        """How far the clock was set forward, for a process that was started since: nothing else tells it the time."""
        world = self._world
        if not any(boot > since for boot in world.boots):
            return 0.0
        return sum(seconds for at, seconds in world.steps if at >= since and seconds > 0)

    def _is_known(self, look: Look) -> bool:
        """Whether the store can know what this look saw: its check lost no write, and its process did not die soon."""
        if look.ended > self._world.deaths.get(look.life, look.ended + FRESH) - FRESH:
            return False
        place = bisect_left(self._losses, look.ended)
        return place == len(self._losses) or self._losses[place] > look.ended + FRESH
