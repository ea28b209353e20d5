"""No missed change: where nothing was amiss for long enough, the verdict and the bus say what the vault says."""

from dataclasses import replace

from byokd.domain.identifiers import AccountId
from byokd.domain.vocabulary import Reason, RefusalKind
from simulation.rows import Rows, VersionRow
from simulation.trace import ViolatedError
from simulation.vaults import SimVault
from simulation.world import SimWorld

MISSED = "3 no missed change"
CALLS = "7 calls at once are bounded"
PUBLISHING = 5.0
"""Seconds from a commit to the bus: the longest poll, had every ring been lost."""

AFTER_TROUBLE = 120.0
"""Seconds until everything tries again that waited for a store, a broker or a start, beside vaults."""


class PromptOracle:
    """Compares what is stored and told with what the vaults would say, now and then."""

    def __init__(self, world: SimWorld, rows: Rows) -> None:
        self._world = world
        self._rows = rows
        self._well: dict[int, float] = {}
        self._hinted: list[tuple[float, int, float]] = []
        checks = world.settings.checks
        self.sharp = (
            checks.interval * (1 + checks.jitter) + 2 * checks.deadline + checks.confirm_after
        ).total_seconds() + PUBLISHING
        self.wide = (
            self.sharp
            + AFTER_TROUBLE
            + (checks.interval + checks.recheck_most + checks.vault_backoff_most).total_seconds()
        )
        self.network = checks.confirm_network_after.total_seconds() + checks.confirm_after.total_seconds()

    def note(self, vault: SimVault) -> None:
        """Note of a vault that changes just now which of its versions were well, and for how long undisturbed."""
        quiet = self._quiet_since(vault)
        for row in self._rows.versions.values():
            if row.target.key.host == vault.host:
                self._well.pop(row.id, None)
                if row.is_well and self._world.is_up and self._world.now - quiet > 2 * self.sharp and not vault.faults:
                    self._well[row.id] = self._world.now

    def _quiet_since(self, vault: SimVault) -> float:
        world = self._world
        return max(vault.touched, world.touched, world.vaults.between.touched, world.bus.touched, world.store.touched)

    def _is_undisturbed(self, vault: SimVault) -> bool:
        world = self._world
        return (
            world.is_up
            and not vault.faults
            and vault.latency < 0.5
            and world.vaults.between.silence is None
            and not world.bus.down
            and not world.bus.refuses
            and not world.store.fails_all
        )

    def look(self) -> None:
        """Look at every version that wraps a present account key."""
        for account in self._rows.accounts.values():
            if account.version is None:
                continue
            row = self._rows.versions[account.version]
            vault = self._world.vaults.vaults[row.target.key.host]
            assert isinstance(vault, SimVault)
            truth = self._world.vaults.truth(row.target)
            if self._is_undisturbed(vault) and not isinstance(truth, Reason):
                self._compare(account.id, row, vault, truth)

    def _compare(self, account: AccountId, row: VersionRow, vault: SimVault, truth: RefusalKind | None) -> None:
        since = self._quiet_since(vault)
        was_well = self._well.get(row.id) == vault.touched == since
        bound = self.sharp if was_well and truth is not None else self.wide
        if truth is RefusalKind.NETWORK_BLOCKED:
            bound += self.network
        if row.held is not None:
            bound += self._world.settings.brake.max_hold.total_seconds()
        if self._world.now - since <= bound:
            return
        self._world.trace.count("promptness compared" + (", sharply" if bound == self.sharp else ""))
        wanted = "Usable" if truth is None else "Denied"
        if row.outcome != wanted:
            raise ViolatedError(
                MISSED, f"{row.target.key} is {row}, though for {self._world.now - since:.0f} s {truth}"
            )
        if truth is None and not row.is_well:
            raise ViolatedError(MISSED, f"{row.target.key} was well for {self._world.now - since:.0f} s, yet {row}")
        state = "Accessible" if truth is None else "Inaccessible"
        if self._rows.accounts[account].state != state:
            raise ViolatedError(MISSED, f"{account.name} did not follow: {self._rows.accounts[account]}")

    def expect_soon(self, watch: int, *, within: float) -> None:
        """A true hint of a revocation was given: the denial must be committed by then, if nothing comes between."""
        self._hinted.append((self._world.now, watch, self._world.now + within))

    def look_at_hints(self) -> None:
        """Judge the hints that are over."""
        wrapping = {account.version for account in self._rows.accounts.values()}
        over = [hint for hint in self._hinted if hint[2] <= self._world.now]
        self._hinted = [hint for hint in self._hinted if hint[2] > self._world.now]
        for given, watch, until in over:
            for row in self._rows.versions.values():
                if row.watch != watch or not row.current or row.id not in wrapping:
                    continue
                vault = self._world.vaults.vaults[row.target.key.host]
                assert isinstance(vault, SimVault)
                truth = self._world.vaults.truth(row.target)
                quiet = self._is_undisturbed(vault) and self._quiet_since(vault) <= given
                if quiet and isinstance(truth, RefusalKind) and truth is not RefusalKind.NETWORK_BLOCKED:
                    self._world.trace.count("true hint judged")
                    if row.outcome != "Denied" and row.held is None:
                        raise ViolatedError(MISSED, f"{row.target.key}: {until - given:.0f} s after a true hint: {row}")

    def check_bounds(self) -> None:
        """Calls at once: checks, rewraps and uses of one vault have bounds of their own, operators come one by one."""
        settings = self._world.settings
        most = settings.checks.vault_concurrency + settings.rewrap.vault_concurrency + 8 + 8
        for vault in self._world.vaults.all():
            if vault.most_running > most:
                raise ViolatedError(CALLS, f"{vault.most_running} calls at once to {vault.host}, at most {most}")

    def unfinished(self) -> str | None:
        """What is not yet as it must become when everything is calm; None when all is."""
        for account in self._rows.accounts.values():
            if account.version is None:
                continue
            row = self._rows.versions[account.version]
            truth = self._world.vaults.truth(row.target)
            if isinstance(truth, Reason):
                continue
            if account.state != ("Accessible" if truth is None else "Inaccessible"):
                return f"{account.id.name} is {account.state}, though {truth}"
            if truth is None and not row.is_well:
                return f"not well: {row}"
            # From a version that is refused nothing newer is adopted, also for accounts that another one still wraps.
            adopts = not row.pinned and self._world.vaults.truth(self._current_of(row).target) is None
            if truth is None and adopts and (newer := self._newer(row)) is not None:
                return f"{account.id.name} is not on {newer}"
        return None

    def _current_of(self, row: VersionRow) -> VersionRow:
        return next(one for one in self._rows.versions.values() if one.watch == row.watch and one.current)

    def _newer(self, row: VersionRow) -> str | None:
        vault = self._world.vaults.vaults[row.target.key.host]
        newest = vault.keys[row.target.key.name].newest
        fit = newest.enabled and newest.not_before is None and newest.expires is None
        target = replace(row.target, key=row.target.key.at(newest.id))
        fit = fit and all(vault.refusal(operation, target) is None for operation in ("get", "wrapKey", "unwrapKey"))
        return newest.id if fit and newest.id != row.target.key.version else None
