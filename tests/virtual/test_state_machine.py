"""Any story of customers, bad luck and an operator, held against a model of a few lines; failures shrink to short ones.

Runtime and store are the real ones, on virtual time. `HYPOTHESIS_PROFILE=long` tells many more stories.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import looptime
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from byokd.domain.accounts import Account
from byokd.domain.identifiers import AccountId, KeyIdentifier, KeyVersion
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, RefusalKind, State
from byokd.ports import StoreUnavailableError
from byokd.runtime.registrar import Action
from virtual.test_no_key_is_lost import Witness
from virtual.vaults import SLOWLY, Mishap, Vault
from virtual.world import HOUR, VirtualClock, World, account_id, spec_of

SILENCES = (Reason.THROTTLED, Reason.VAULT_ERROR, Reason.TOKEN_UNAVAILABLE, Mishap.HANG, Mishap.SLOW, Mishap.DEFECT)
RECONNECTED = 100
"""Seconds after which a broker that is back has been found again, and been told what it lost."""

IN_FLIGHT = 2 * SLOWLY + 1
"""Seconds after which a refusal that has been taken back is not heard any more."""


@dataclass(slots=True)
class Customer:
    """The model of a key: which versions the vault refuses now, why, and until when it refused the others."""

    vault: Vault
    key: KeyIdentifier
    versions: list[KeyVersion]
    disabled: set[KeyVersion] = field(default_factory=set)
    whole: Reason | None = None
    until: dict[KeyVersion, float] = field(default_factory=dict)

    def refuses(self, version: KeyVersion) -> Reason | None:
        return self.whole or (Reason.KEY_DISABLED if version in self.disabled else None)

    def adopted(self, current: KeyVersion) -> KeyVersion:
        """What wraps the key of an account, in the end, where `current` did before."""
        newest = self.versions[-1]
        return current if self.refuses(newest) or self.refuses(current) else newest


class Story(RuleBasedStateMachine):
    """Two customers with a key each, four accounts at most."""

    service_keys: Path

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(capture_logs())
        loop = asyncio.Runner(loop_factory=lambda: looptime.new_event_loop(start=0, noop_cycles=2))
        self.run: Callable[[Coroutine[Any, Any, Any]], Any] = self.stack.enter_context(loop).run
        self.world = World(self.service_keys)
        self.customers = [self.run(self.customer(name)) for name in ("contoso", "fabrikam")]
        self.wraps: dict[AccountId, tuple[Customer, KeyVersion]] = {}
        self.denied: set[object] = set()
        self.looked = 0.0
        self.troubled = self.odd = False
        self.witness = Witness(self.world)
        self.run(self.world.start())
        self.up = True

    async def customer(self, name: str) -> Customer:
        vault, key = self.world.one_vault(name)
        vault.clock = VirtualClock()  # whatever is done to ours
        return Customer(vault, key, [vault.key().newest.id])

    def teardown(self) -> None:
        try:
            self.time_heals()
            self.run(self.world.stop())
        finally:
            self.run(self.world.crash())
            self.stack.close()
            self.world.close()

    # What customers do.

    @rule(which=st.integers(0, 1))
    def rotate(self, which: int) -> None:
        customer = self.customers[which]
        self.changing(customer)
        self.run(self.new_version(customer))

    async def new_version(self, customer: Customer) -> None:
        customer.vault.rotate()
        customer.versions.append(customer.vault.key().newest.id)

    @rule(which=st.integers(0, 1), back=st.integers(1, 2))
    def disable(self, which: int, back: int) -> None:
        customer = self.customers[which]
        self.changing(customer)
        place = -min(back, len(customer.versions))
        customer.vault.disable(version=place)
        customer.disabled.add(customer.versions[place])

    @rule(which=st.integers(0, 1), reason=st.sampled_from([Reason.ACCESS_DENIED, Reason.KEY_NOT_FOUND]))
    def take_away(self, which: int, reason: Reason) -> None:
        customer = self.customers[which]
        if customer.whole is None:
            self.changing(customer)
            customer.whole = reason
            take = customer.vault.revoke if reason is Reason.ACCESS_DENIED else customer.vault.delete
            take()

    @rule(which=st.integers(0, 1))
    def give_back(self, which: int) -> None:
        customer = self.customers[which]
        self.changing(customer)
        customer.disabled.clear()
        customer.whole = None
        customer.vault.enable()
        customer.vault.recover()
        customer.vault.grant()

    def changing(self, customer: Customer) -> None:
        """Note until when versions were refused that soon may not be any more."""
        now = self.run(self.now())
        customer.until |= {version: now for version in customer.versions if customer.refuses(version)}

    # What bad luck does.

    @rule(which=st.integers(0, 1), what=st.sampled_from(SILENCES), count=st.sampled_from([1, 4, 30]))
    def silence(self, which: int, what: Reason | Mishap, count: int) -> None:
        self.troubled = True
        self.customers[which].vault.strike(what, count=count)

    @precondition(lambda self: not self.odd)
    @rule(which=st.integers(0, 1), what=st.sampled_from([RefusalKind.ACCESS_DENIED, Mishap.WRONG_VALUE]))
    def odd_answer(self, which: int, what: RefusalKind | Mishap) -> None:
        """One only: two of them might meet, and that is what a denial looks like."""
        self.odd = self.troubled = True
        self.customers[which].vault.strike(what, "unwrapKey", count=1)

    @rule(which=st.integers(0, 1), count=st.integers(1, 3))
    def stale(self, which: int, count: int) -> None:
        self.customers[which].vault.strike(Mishap.STALE, "get", count=count)

    @rule(seconds=st.sampled_from([-HOUR, -90, 20, HOUR]))
    def clock_is_set(self, seconds: float) -> None:
        self.world.clock.stepped += timedelta(seconds=seconds)

    @rule(after=st.booleans(), soon=st.integers(0, 15), count=st.integers(1, 3))
    def store_stumbles(self, after: bool, soon: int, count: int) -> None:  # noqa: FBT001 - drawn
        self.troubled = True
        self.world.store.after = after
        first = self.world.store.calls + soon
        self.world.store.fail_at = frozenset(range(first, first + count))

    @rule(empty=st.booleans())
    def broker_goes(self, empty: bool) -> None:  # noqa: FBT001 - drawn
        self.world.bus.drop()
        if empty:
            self.world.bus.retained.clear()

    @precondition(lambda self: self.world.bus.down)
    @rule()
    def broker_returns(self) -> None:
        self.world.bus.back()

    # What the operator does.

    @precondition(lambda self: self.up)
    @rule(number=st.integers(1, 4), which=st.integers(0, 1), pinned=st.booleans())
    def register(self, number: int, which: int, pinned: bool) -> None:  # noqa: FBT001 - drawn
        account, customer = account_id(number), self.customers[which]
        if account in self.wraps:
            return
        key = customer.key.at(customer.versions[-1]) if pinned else customer.key
        result = self.insist(lambda: self.world.service.registrar.apply(spec_of(number, key)))
        if result.action is Action.REFUSED:
            assert self.troubled or any(map(customer.refuses, customer.versions)), result
        else:
            self.wraps[account] = customer, customer.versions[0]

    @precondition(lambda self: self.up and self.wraps)
    @rule(pick=st.integers(0, 3))
    def unregister(self, pick: int) -> None:
        account = sorted(self.wraps)[pick % len(self.wraps)]
        self.insist(lambda: self.world.service.registrar.delete(account))
        del self.wraps[account]

    @precondition(lambda self: self.up)
    @rule()
    def hint(self) -> None:
        async def hint() -> None:
            for watch in await self.world.sql.watches():
                self.world.service.scheduler.hint(watch.id, detected_by=DetectedBy.HINT)

        self.run(hint())

    @precondition(lambda self: self.up)
    @rule()
    def crash(self) -> None:
        self.run(self.world.crash())
        self.up = False

    @precondition(lambda self: self.up)
    @rule()
    def stop(self) -> None:
        self.run(self.world.stop())
        self.up = False

    @precondition(lambda self: not self.up)
    @rule()
    def start(self) -> None:
        self.run(self.world.start())
        self.up = True

    @rule(seconds=st.sampled_from([0.05, 1, 6, 20, 70, 400]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def time_heals(self) -> None:
        """Bad luck ends; what customers did stays. Then nothing may be missed for long."""
        for customer in self.customers:
            customer.vault.faults.clear()
        self.world.store.fail_at = frozenset()
        self.world.bus.back()
        if not self.up:
            self.start()
        self.time_passes(RECONNECTED)
        self.run(self.world.until(self.is_as_modelled, within=2 * HOUR))
        self.run(self.world.assert_converged(keys_open=False))
        self.troubled = self.odd = False

    def insist(self, ask: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - what is asked for
        """As an operator over a store that stumbles, and a defect: again."""
        while True:
            try:
                return self.run(ask())
            except (StoreUnavailableError, RuntimeError):
                continue

    # What must hold.

    @invariant()
    def nothing_is_lost_and_no_alarm_is_false(self) -> None:
        assert self.world.is_alive() == self.up
        self.run(self.witness.look())
        for customer in self.customers:
            self.run(self.no_alarm_is_false(customer))
        self.looked = self.run(self.now())

    async def no_alarm_is_false(self, customer: Customer) -> None:
        for watch in await self.world.sql.watches():
            if watch.key.host != customer.key.host:
                continue
            for version in watch.versions:
                if version.verdict.outcome is not Outcome.DENIED:
                    self.denied.discard((watch.id, version.id))
                    continue
                was = customer.until.get(version.version, -HOUR) + IN_FLIGHT >= self.looked
                known = (watch.id, version.id) in self.denied
                assert known or was or customer.refuses(version.version), f"{version.version} was not refused"
                self.denied.add((watch.id, version.id))

    async def is_as_modelled(self) -> bool:
        present = {account.id: account for account in await self.world.sql.accounts()}
        assert present.keys() == self.wraps.keys()
        return all([await self.is_right(account) for account in present.values()])

    async def is_right(self, account: Account) -> bool:
        """Whether an account is where it should be. It never goes back to an older version."""
        customer, before = self.wraps[account.id]
        assert account.current is not None
        assert account.current.version is not None
        assert account.spec.customer_key is not None
        now, versions = account.current.version, customer.versions
        assert versions.index(now) >= versions.index(before), "an older version again"
        self.wraps[account.id] = customer, now
        reason = customer.refuses(now)
        state = State.ACCESSIBLE if reason is None else State.INACCESSIBLE
        moved = account.spec.customer_key.key.version is not None or await self.is_moved(account, customer)
        return (account.state, account.reason) == (state, reason) and moved

    async def is_moved(self, account: Account, customer: Customer) -> bool:
        """Whether its key is wrapped by what the watch should follow; where that is refused, it stays."""
        assert account.current is not None
        assert account.current.version is not None
        current = (await self.world.watch(customer.key)).current_version.version
        if current != customer.adopted(current):
            return False
        stuck = customer.refuses(current) or customer.refuses(account.current.version)
        return account.current.version == current or stuck is not None

    async def now(self) -> float:
        return self.world.now


def test_any_story_ends_well_loses_no_key_and_raises_no_false_alarm(service_keys: Path) -> None:
    story = type("Story", (Story,), {"service_keys": service_keys})
    run_state_machine_as_test(story, settings=hypothesis.settings(stateful_step_count=30))
