"""Any story of customers, bad luck and an operator, held against a model of a few lines; failures shrink to short ones.

Runtime and store are the real ones, on virtual time. `HYPOTHESIS_PROFILE=long` tells many more stories.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import looptime
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select
from structlog.testing import capture_logs

from byokd.adapters.sql.tables import events
from byokd.domain.accounts import Account
from byokd.domain.identifiers import AccountId, KeyIdentifier, KeyVersion
from byokd.domain.vocabulary import DetectedBy, EventType, Outcome, Reason, RefusalKind, State
from byokd.ports import StoreUnavailableError
from byokd.runtime.registrar import Action
from virtual.test_no_key_is_lost import Witness
from virtual.vaults import SLOWLY, Mishap, Vault
from virtual.world import HOUR, VirtualClock, World, account_id, spec_of

SILENCES = (Reason.THROTTLED, Reason.VAULT_ERROR, Reason.TOKEN_UNAVAILABLE, Mishap.HANG, Mishap.SLOW, Mishap.DEFECT)
WAITS = st.sampled_from([0.0, 0.0, 1.0, 6.0, 70.0, 200.0])
WHICH = st.integers(0, 1)
BETWEEN_LOOKS, MOST_LOOKS = 20.0, 360
RECONNECTED = 70.0
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

    def follows(self, version: KeyVersion, current: KeyVersion) -> KeyVersion:
        """What wraps an account key, in the end, that `version` wraps while `current` is the adopted one."""
        newest = self.versions[-1]
        adopted = current if self.refuses(newest) or self.refuses(current) else newest
        return version if self.refuses(version) or self.refuses(adopted) else adopted


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
        self.denied: set[KeyVersion] = set()
        self.looked, self.heard = 0.0, 0
        self.troubled = self.odd = False
        self.witness = Witness(self.world)
        self.run(self.world.start())
        self.up = True
        for number, which, pinned in ((1, 0, False), (2, 0, True), (3, 1, False)):
            self.register(number=number, which=which, pinned=pinned)

    async def customer(self, name: str) -> Customer:
        vault, key = self.world.one_vault(name)
        vault.clock = VirtualClock()  # whatever is done to ours
        return Customer(vault, key, [vault.key().newest.id])

    def teardown(self) -> None:
        try:
            self.time_heals()
            for which in range(len(self.customers)):
                self.give_back(which=which, wait=0)
            self.time_heals()
            self.run(self.world.stop())
        finally:
            self.run(self.world.crash())
            self.stack.close()
            self.world.close()

    # What customers do.

    @rule(which=WHICH, wait=WAITS)
    def rotate(self, which: int, wait: float) -> None:
        customer = self.customers[which]
        self.changing(customer)
        self.run(self.new_version(customer))
        self.run(asyncio.sleep(wait))

    async def new_version(self, customer: Customer) -> None:
        await asyncio.sleep(1)  # a vault counts in whole seconds; which of two in one is newer, a stale copy may hide
        customer.vault.rotate()
        customer.versions.append(customer.vault.key().newest.id)

    @rule(which=WHICH, back=st.integers(1, 2), wait=WAITS)
    def disable(self, which: int, back: int, wait: float) -> None:
        customer = self.customers[which]
        self.changing(customer)
        place = -min(back, len(customer.versions))
        customer.vault.disable(version=place)
        customer.disabled.add(customer.versions[place])
        self.run(asyncio.sleep(wait))

    @rule(which=WHICH, reason=st.sampled_from([Reason.ACCESS_DENIED, Reason.KEY_NOT_FOUND]), wait=WAITS)
    def take_away(self, which: int, reason: Reason, wait: float) -> None:
        customer = self.customers[which]
        if customer.whole is None:
            self.changing(customer)
            customer.whole = reason
            (customer.vault.revoke if reason is Reason.ACCESS_DENIED else customer.vault.delete)()
        self.run(asyncio.sleep(wait))

    @rule(which=WHICH, wait=WAITS)
    def give_back(self, which: int, wait: float) -> None:
        customer = self.customers[which]
        self.changing(customer)
        customer.disabled.clear()
        customer.whole = None
        customer.vault.enable()
        customer.vault.recover()
        customer.vault.grant()
        self.run(asyncio.sleep(wait))

    def changing(self, customer: Customer) -> None:
        """Note until when versions were refused that soon may not be any more."""
        now = self.run(self.now())
        customer.until |= {version: now for version in customer.versions if customer.refuses(version)}

    # What bad luck does.

    @rule(which=WHICH, what=st.sampled_from(SILENCES), count=st.sampled_from([1, 4, 30]), wait=WAITS)
    def silence(self, which: int, what: Reason | Mishap, count: int, wait: float) -> None:
        self.troubled = True
        self.customers[which].vault.strike(what, count=count)
        self.run(asyncio.sleep(wait))

    @precondition(lambda self: not self.odd)
    @rule(which=WHICH, what=st.sampled_from([RefusalKind.ACCESS_DENIED, Mishap.WRONG_VALUE]), wait=WAITS)
    def odd_answer(self, which: int, what: RefusalKind | Mishap, wait: float) -> None:
        """One only: two of them might meet, and that is what a denial looks like."""
        self.odd = self.troubled = True
        self.customers[which].vault.strike(what, "unwrapKey", count=1)
        self.run(asyncio.sleep(wait))

    @rule(which=WHICH, count=st.integers(1, 3))
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

    @rule(empty=st.booleans(), wait=WAITS)
    def broker_goes(self, empty: bool, wait: float) -> None:  # noqa: FBT001 - drawn
        """It is back when time heals, or with the next that goes."""
        self.world.bus.back()
        self.run(asyncio.sleep(1))
        self.world.bus.drop()
        if empty:
            self.world.bus.retained.clear()
        self.run(asyncio.sleep(wait))

    # What the operator does.

    @precondition(lambda self: self.up)
    @rule(number=st.integers(1, 4), which=WHICH, pinned=st.booleans())
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
        self.run(self.hints())

    async def hints(self) -> None:
        for watch in await self.world.sql.watches():
            self.world.service.scheduler.hint(watch.id, detected_by=DetectedBy.HINT)

    @precondition(lambda self: self.up)
    @rule(orderly=st.booleans(), wait=WAITS)
    def ends(self, orderly: bool, wait: float) -> None:  # noqa: FBT001 - drawn
        self.run(self.world.stop() if orderly else self.world.crash())
        self.up = False
        self.run(asyncio.sleep(wait))

    @precondition(lambda self: not self.up)
    @rule(wait=WAITS)
    def starts(self, wait: float) -> None:
        self.run(self.world.start())
        self.up = True
        self.run(asyncio.sleep(wait))

    @rule(wait=WAITS)
    def time_passes(self, wait: float) -> None:
        self.run(asyncio.sleep(wait))

    @rule()
    def time_heals(self) -> None:
        """Bad luck ends; what customers did stays. Then nothing may be missed for long."""
        for customer in self.customers:
            customer.vault.faults.clear()
        self.world.store.fail_at = frozenset()
        self.world.bus.back()
        if not self.up:
            self.starts(wait=0)
        self.run(self.right_in_time())
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
        self.run(self.listen())
        self.looked = self.run(self.now())

    async def listen(self) -> None:
        """Follow the accounts by what was committed: no false alarm, however short, and no older version again."""
        of_accounts = select(events).where(events.c.account.is_not(None)).order_by(events.c.number)
        news = of_accounts.where(events.c.number > self.heard)
        for row in await self.world.sql._runner.read(lambda c: list(c.execute(news))):
            self.heard = row.number
            account, version = AccountId.parse(row.account), KeyVersion(row.data["currentKeyIdentifier"].split("/")[-1])
            if account not in self.wraps:
                continue
            customer, before = self.wraps[account]
            assert customer.versions.index(version) >= customer.versions.index(before), "an older version again"
            self.wraps[account] = customer, version
            if row.type == EventType.ACCOUNT_INACCESSIBLE:
                assert version in self.denied or self.was_refused(customer, version), f"{version} was not refused"
        verdicts = [version for watch in await self.world.sql.watches() for version in watch.versions]
        self.denied = {one.version for one in verdicts if one.verdict.outcome is Outcome.DENIED}

    def was_refused(self, customer: Customer, version: KeyVersion) -> bool:
        """Whether it was at any time since the last look; what was on its way then counts too."""
        until = customer.until.get(version, -HOUR)
        return customer.refuses(version) is not None or until + IN_FLIGHT >= self.looked

    async def right_in_time(self) -> None:
        """Wait until everything is as it should be, which may take as long as the longest backoffs."""
        await asyncio.sleep(RECONNECTED)
        for _ in range(MOST_LOOKS):
            await self.listen()
            if await self.is_as_modelled():
                return
            await asyncio.sleep(BETWEEN_LOOKS)
        raise AssertionError([(one.id.name, one.state, one.reason, one.current) for one in await self.accounts()])

    async def accounts(self) -> Sequence[Account]:
        return await self.world.sql.accounts()

    async def is_as_modelled(self) -> bool:
        present = {account.id: account for account in await self.accounts()}
        assert present.keys() == self.wraps.keys()
        current = {watch.key: watch.current_version.version for watch in await self.world.sql.watches()}
        return all(self.is_right(account, current) for account in present.values())

    def is_right(self, account: Account, current: Mapping[KeyIdentifier, KeyVersion]) -> bool:
        """Whether an account is in the state of its version, and wrapped by the version that it should be."""
        customer, now = self.wraps[account.id]
        assert account.spec.customer_key is not None
        assert account.current == customer.key.at(now)
        reason, key = customer.refuses(now), account.spec.customer_key.key
        state = State.ACCESSIBLE if reason is None else State.INACCESSIBLE
        should = now if key.version is not None else customer.follows(now, current[key])
        return (account.state, account.reason, now) == (state, reason, should)

    async def now(self) -> float:
        return self.world.now


def test_any_story_ends_well_loses_no_key_and_raises_no_false_alarm(service_keys: Path) -> None:
    story = type("Story", (Story,), {"service_keys": service_keys})
    stories = hypothesis.settings.default.max_examples * 2 // 5
    run_state_machine_as_test(story, settings=hypothesis.settings(max_examples=stories, stateful_step_count=25))
