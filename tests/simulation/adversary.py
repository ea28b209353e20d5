"""How a world is changed, drawn from its seed; and what customers do to their keys."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import Random

from byokd.domain.answers import WRAPPING_OPERATIONS
from byokd.domain.identifiers import WatchId
from byokd.domain.vocabulary import DetectedBy
from simulation.oracle import Oracle
from simulation.vaults import Look, SimVault
from simulation.world import Customer, SimWorld
from virtual.vaults import Version

WHILE = (2.0, 8.0, 30.0, 120.0, 900.0)
"""Seconds that trouble lasts."""

MOST_VERSIONS = 8
OPERATIONS_LESS = (frozenset[str](), frozenset({"wrapKey"}), frozenset({"unwrapKey"}))


class Adversary:
    """Changes the world. What it breaks it may mend later; `calm` mends all."""

    def __init__(self, world: SimWorld, oracle: Oracle, chance: Random) -> None:
        self.world = world
        self.oracle = oracle
        self.chance = chance
        self.is_calm = False
        self.catching_up: list[Callable[[], None]] = []

    # --- how changes are made

    def customer(self) -> Customer:
        return self.chance.choice(self.world.customers)

    def place(self) -> tuple[SimVault, str]:
        """A vault and the name of one of its keys."""
        customer = self.customer()
        vault = self.chance.choice(customer.vaults)
        return vault, self.chance.choice(sorted(vault.keys))

    def change(self, vault: SimVault, what: str, *arguments: object) -> None:
        """Note that a vault changes now."""
        self.oracle.prompt.note(vault)
        vault.touch()
        shown = " ".join(str(argument) for argument in arguments)
        self.world.trace.note(f"! {what} {vault.host.partition('.')[0]} {shown}")

    def later(self, undo: Callable[[], None], *, often: float = 0.8, within: float | None = None) -> None:
        """Undo something after a while; sometimes only when all gets calm."""
        seconds = self.chance.choice(WHILE) * self.chance.uniform(0.5, 1.5) if within is None else within
        keeps = self.chance.random() > often

        def undone() -> None:
            if not self.is_calm:
                undo()

        if not keeps:
            asyncio.get_running_loop().call_later(seconds, undone)

    def hint(self, vault: SimVault, name: str | None = None, *, by: DetectedBy = DetectedBy.HINT) -> list[int]:
        """Tell byokd that something happened to a key."""
        watches = dict.fromkeys(
            row.watch
            for row in self.oracle.rows.versions.values()
            if row.target.key.host == vault.host and name in {None, row.target.key.name}
        )
        if self.world.is_up:
            for watch in watches:
                self.world.service.scheduler.hint(WatchId(watch), detected_by=by)
        return list(watches)

    def may_rotate(self, vault: SimVault, name: str) -> bool:
        """Not within a second: a vault counts in whole ones, and nobody can say which of two in one is the newer."""
        key = vault.keys.get(name)
        return (
            key is not None
            and len(key.versions) < MOST_VERSIONS
            and vault.clock.now() - key.newest.created >= timedelta(seconds=1)
        )

    def version(self, vault: SimVault, name: str) -> Version:
        versions = vault.keys[name].versions
        return versions[-1] if self.chance.random() < 0.6 else self.chance.choice(versions)

    # --- what customers do

    def rotate(self) -> None:
        vault, name = self.place()
        if self.may_rotate(vault, name):
            self.change(vault, "rotate", name)
            vault.rotate(name)
            if self.chance.random() < 0.5:
                self.hint(vault, name)
            if self.chance.random() < 0.2:
                old = vault.keys[name].versions[-2]
                self.later(lambda: self._enable(vault, old, enabled=False), within=self.chance.uniform(0, 60))

    def _enable(self, vault: SimVault, version: Version, *, enabled: bool) -> None:
        self.change(vault, "enable" if enabled else "disable", version.id[:6])
        version.enabled = enabled

    def disable(self) -> None:
        vault, name = self.place()
        version = self.version(vault, name)
        self._enable(vault, version, enabled=False)
        self._hint_revoked(vault)
        self.later(lambda: self._enable(vault, version, enabled=True))

    def _hint_revoked(self, vault: SimVault, *, often: float = 0.4) -> None:
        """Event Grid may tell, and soon."""
        if self.chance.random() < often and self.world.is_up and not vault.faults and not self._is_left_alone(vault):
            checks = self.world.settings.checks
            within = (2 * checks.deadline + checks.confirm_after).total_seconds() + 5
            quiet = self.oracle.prompt
            for watch in self.hint(vault):
                quiet.expect_soon(watch, within=within)

    def _is_left_alone(self, vault: SimVault) -> bool:
        """Whether byokd may be waiting for a vault that failed: hints do not shorten that."""
        rows = self.oracle.rows.versions.values()
        return any(row.unverified is not None and row.target.key.host == vault.host for row in rows)

    def disable_during_a_check(self) -> None:
        """Just after a probe was answered, and the hint comes while that check still runs."""
        wrapping = {account.version for account in self.oracle.rows.accounts.values()}
        rows = [row for row in self.oracle.rows.versions.values() if row.id in wrapping and row.current]
        if not rows:
            return
        target, until = self.chance.choice(rows).target, self.world.now + 150
        vault = self.world.vaults.vaults[target.key.host]
        version = vault.version(target.key)
        if version is None:
            return

        def answered(look: Look) -> None:
            if look.target == target and not self.is_calm and self.world.now < until:
                self.world.vaults.on_probe = lambda _: None
                self._enable(vault, version, enabled=False)
                self._hint_revoked(vault, often=1)
                self.later(lambda: self._enable(vault, version, enabled=True), within=40)

        self.world.vaults.on_probe = answered

    def delete(self) -> None:
        vault, name = self.place()
        self.change(vault, "delete", name)
        vault.delete(name)
        self._hint_revoked(vault)

        def recover() -> None:
            self.change(vault, "recover", name)
            vault.recover(name)

        self.later(recover)

    def make_anew(self) -> None:
        """Purge a key and make one of the same name: what it wrapped is gone for good."""
        vault, name = self.place()
        if self.chance.random() < 0.15:
            self.change(vault, "make anew", name)
            del vault.keys[name]
            vault.create(name)

    def expire(self) -> None:
        vault, name = self.place()
        version = self.version(vault, name)
        now, far = vault.clock.now(), timedelta(seconds=self.chance.choice((-60, 20, 90, 600)))
        self.change(vault, "expire", version.id[:6], far)
        if self.chance.random() < 0.5:
            version.expires = now + far
        else:
            version.not_before = now + far

        def mend() -> None:
            self.change(vault, "unexpire", version.id[:6])
            version.expires = version.not_before = None

        self.later(mend)

    def take_operations(self) -> None:
        vault, name = self.place()
        version = self.version(vault, name)
        self.change(vault, "operations", version.id[:6])
        version.operations = self.chance.choice(OPERATIONS_LESS)
        self._hint_revoked(vault)

        def mend() -> None:
            self.change(vault, "operations back", version.id[:6])
            version.operations = WRAPPING_OPERATIONS

        self.later(mend)

    def revoke(self) -> None:
        """Role assignments take a while to get through, in both directions."""
        customer = self.customer()
        vault = self.chance.choice(customer.vaults)
        taken = self.chance.choice((("get", "wrapKey", "unwrapKey"), ("get",), ("wrapKey",), ("unwrapKey",)))

        def spread(granted: frozenset[str]) -> None:
            self.change(vault, "granted", *sorted(granted))
            vault.grants[customer.identity] = granted  # type: ignore[assignment]

        everything = frozenset({"get", "wrapKey", "unwrapKey"})
        self.later(lambda: spread(everything - set(taken)), often=1, within=self.chance.choice((0.0, 5.0, 300.0)))
        self.later(lambda: spread(everything), within=self.chance.choice((20.0, 120.0, 900.0)))

    def flap(self) -> None:
        """A key that is disabled and enabled again and again."""
        vault, name = self.place()
        version, every = vault.keys[name].newest, self.chance.choice((1.0, 4.0, 12.0))
        times = self.chance.randint(4, 16)
        for number in range(times):
            enabled = number % 2 == 1 or number == times - 1
            self.later(lambda on=enabled: self._enable(vault, version, enabled=on), often=1, within=number * every)  # type: ignore[misc]

    def block(self) -> None:
        vault, _ = self.place()
        self.change(vault, "firewall")
        vault.blocked = True

        def mend() -> None:
            self.change(vault, "firewall off")
            vault.blocked = False

        self.later(mend)

    def delete_vault(self) -> None:
        vault, _ = self.place()
        self.change(vault, "vault deleted")
        vault.gone = True

        def mend() -> None:
            self.change(vault, "vault back")
            vault.gone = False

        self.later(mend)
