"""Bad luck with vaults, and of our own."""

from byokd.domain.vocabulary import Reason, RefusalKind
from simulation.adversary import Adversary
from simulation.vaults import SimVault
from virtual.vaults import Mishap

SILENCES = (
    Reason.THROTTLED, Reason.VAULT_ERROR, Reason.TIMED_OUT, Reason.CONNECTION_FAILED, Reason.TLS_FAILED,
    Reason.FOREIGN_ANSWER, Reason.UNREADABLE_ANSWER, Reason.UNAUTHORIZED, Reason.TOKEN_UNAVAILABLE,
    Mishap.HANG, Mishap.SLOW, Mishap.DEFECT,
)  # fmt: skip
ODD = (RefusalKind.ACCESS_DENIED, RefusalKind.NOT_FOUND, RefusalKind.NETWORK_BLOCKED, RefusalKind.KEY_DISABLED)


class BadLuck(Adversary):
    """What happens beside what customers do."""

    def strike(self) -> None:
        vault, _ = self.place()
        fault = self.chance.choice(SILENCES)
        operations = self.chance.choice(((), (), ("unwrapKey",), ("get",), ("wrapKey",)))
        count = self.chance.choice((1, 2, 6, None))
        self.change(vault, "strike", fault, count)
        vault.strike(fault, *operations, count=count)

        def mend() -> None:
            self.change(vault, "faults end")
            vault.faults.clear()

        self.later(mend, often=1, within=self.chance.choice((10.0, 60.0, 1200.0)))

    def odd_answer(self) -> None:
        """One false answer, or a few in quick succession."""
        vault, _ = self.place()
        fault = self.chance.choice(ODD)
        self.change(vault, "odd", fault)
        vault.strike(fault, "unwrapKey", count=1)
        if self.chance.random() < 0.4:
            self.hint(vault)

    def wrong_value(self) -> None:
        vault, _ = self.place()
        self.change(vault, "wrong value")
        self.world.lies = True
        vault.strike(Mishap.WRONG_VALUE, "unwrapKey", count=1)

    def odd_then_quick_hint(self) -> None:
        """One odd answer, and somebody asks again before it can count, on a vault that is slow to explain."""
        vault, name = self.place()
        fault = self.chance.choice(ODD)
        self.change(vault, "odd twice", fault)
        vault.strike(fault, "unwrapKey", count=2)
        vault.strike(Mishap.SLOW, "get", count=2)
        self.hint(vault, name)
        self.later(lambda: self.hint(vault, name), often=1, within=self.chance.uniform(0.1, 4.5))

    def silence_between_denials(self) -> None:
        """Denied once, then no answer for longer than a confirmation takes, then fine again or odd once more."""
        vault, name = self.place()
        fault, silent = self.chance.choice(ODD), self.chance.choice(SILENCES[:8])
        self.change(vault, "odd, then silent", fault, silent)
        vault.strike(fault, "unwrapKey", count=1)
        vault.strike(silent, count=self.chance.randint(1, 4))
        self.hint(vault, name)

    def stale(self) -> None:
        vault, _ = self.place()
        self.change(vault, "stale")
        vault.strike(Mishap.STALE, "get", count=self.chance.randint(1, 5))

    def stale_after_two_rotations(self) -> None:
        """The version between was never seen, until a copy that lags behind shows it as the newest."""
        vault, name = self.place()
        if self.may_rotate(vault, name):
            self.change(vault, "rotate twice", name)
            vault.rotate(name)
            self.later(lambda: self._rotate_again(vault, name), often=1, within=1.5)
            self.later(lambda: self.hint(vault, name) and None, often=1, within=2.0)
            self.later(lambda: vault.strike(Mishap.STALE, "get", count=2), often=1, within=12.0)
            self.later(lambda: self.hint(vault, name) and None, often=1, within=13.0)

    def _rotate_again(self, vault: SimVault, name: str) -> None:
        if self.may_rotate(vault, name):
            vault.rotate(name)

    def slow(self) -> None:
        vault, _ = self.place()
        self.change(vault, "slow")
        vault.latency = self.chance.choice((0.3, 1.2, 2.6))

        def mend() -> None:
            self.change(vault, "quick")
            vault.latency = 0.02

        self.later(mend)

    def fail_over(self) -> None:
        """A vault fails over to a copy of itself that does not know the newest version yet."""
        vault, name = self.place()
        versions = vault.keys[name].versions
        if len(versions) > 1:
            lost = versions.pop()
            self.change(vault, "failed over", lost.id[:6])

            def back() -> None:
                if lost not in versions:
                    self.change(vault, "copy has caught up", lost.id[:6])
                    versions.append(lost)
                    versions.sort(key=lambda one: vault.made[one.id])

            self.catching_up.append(back)
            self.later(back, often=1, within=self.chance.choice((3.0, 20.0, 240.0)))

    # --- bad luck of our own

    def lose_identity(self) -> None:
        between, identity = self.world.vaults.between, self.customer().identity
        between.identities[identity] = self.chance.choice((RefusalKind.ACCESS_DENIED, Reason.TOKEN_UNAVAILABLE))
        self.world.lost_at = self.world.now
        versions, accounts = self.oracle.rows.versions, self.oracle.rows.accounts.values()
        vaults = self.world.vaults.vaults
        wrapping = {account.version for account in accounts}
        self.world.since_loss = {
            row.id: row.outcome
            for row in versions.values()
            if row.id in wrapping and row.is_well and not (vaults[row.target.key.host].is_troubled or row.retired)
        }
        self._between("identity lost", identity)

        def mend() -> None:
            between.identities.pop(identity, None)
            self._between("identity back", identity)

        self.later(mend)

    def lose_network(self) -> None:
        between = self.world.vaults.between
        between.silence = self.chance.choice((Reason.CONNECTION_FAILED, Reason.NAME_NOT_RESOLVED, Mishap.HANG))
        self._between("network lost", between.silence)

        def mend() -> None:
            between.silence = None
            self._between("network back")

        self.later(mend)

    def _between(self, what: str, *arguments: object) -> None:
        self.world.vaults.between.touch()
        self.world.trace.note(f"! {what} {' '.join(map(str, arguments))}")

    def step_clock(self) -> None:
        seconds = self.chance.choice((-600, -30, -4, 4, 7, 30, 300, 3600))
        self._set_clock(seconds)
        if self.chance.random() < 0.5:
            self.hint(self.place()[0])

    def _set_clock(self, seconds: float) -> None:
        self.world.step_clock(seconds)
        if seconds > 60:
            # Events are sent again for as long as they look young.
            self.oracle.bus.excuse()

    def odd_and_clock(self) -> None:
        """One odd answer that is asked again at once, while the clock is set."""
        vault, name = self.place()
        fault = self.chance.choice(ODD)
        self.change(vault, "odd and clock", fault)
        vault.strike(fault, "unwrapKey", count=2)
        self.hint(vault, name)

        def step() -> None:
            self._set_clock(self.chance.choice((7, 400)))
            self.hint(vault, name)

        self.later(step, often=1, within=self.chance.uniform(0.1, 3))
