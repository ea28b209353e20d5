"""What operators do, what happens to store and broker, and how the process ends: the rest of the adversary."""

import asyncio

from byokd.domain.answers import WRAPPING_OPERATIONS as WRAPPING
from byokd.domain.brake import ReleaseCause
from byokd.domain.identifiers import AccountId, KeyIdentifier, WatchId
from byokd.ports import StaleError, StoreUnavailableError
from byokd.runtime.daemon import Daemon
from byokd.runtime.registrar import Action
from simulation.bad_luck import ODD, BadLuck
from simulation.broker import Memory
from simulation.world import Customer, spec_of
from virtual.vaults import OPERATIONS as GRANTED
from virtual.world import account_id

PLACES = (
    "",
    "",
    "store",
    "store commit",
    "store mark_published",
    "bus publish",
    "vault",
    "store follow",
    "store commit_rewraps",
)
DOWNTIMES = (0.5, 5.0, 60.0, 600.0, 3600.0)


class Everything(BadLuck):
    """All that can happen."""

    # --- the store and the broker

    def store_fails(self) -> None:
        store = self.world.store
        when = self.chance.choice(("before", "after"))
        for _ in range(self.chance.randint(1, 4)):
            store.fails[store.calls + self.chance.randrange(1, 60)] = when
        store.touched = self.world.now
        self.world.trace.note(f"! store fails {when}")

    def lose_a_suspicion(self) -> None:
        """One odd answer, and whether its suspicion was committed is not told; from then on all is well."""
        vault, name = self.place()
        fault = self.chance.choice(ODD)
        self.change(vault, "odd, outcome lost", fault)
        vault.strike(fault, "unwrapKey", count=1)
        self.world.store.loses, self.world.store.touched = "commit_decision", self.world.now
        self.hint(vault, name)

    def store_is_down(self) -> None:
        store = self.world.store
        store.fails_all, store.touched = True, self.world.now
        self.world.trace.note("! store down")

        def mend() -> None:
            store.fails_all, store.touched = False, self.world.now
            self.world.trace.note("! store up")

        self.later(mend)

    def broker_is_down(self) -> None:
        bus = self.world.bus
        bus.down = True
        bus.drop()
        self.world.trace.note("! broker down")
        self.world.trace.count("broker: lost")

        def mend() -> None:
            bus.down = False
            bus.touch()

        self.later(mend)

    def broker_drops(self) -> None:
        bus = self.world.bus
        fates = ("taken", "lost", "taken, not acknowledged")
        bus.drops_next = [self.chance.choice(fates) for _ in range(self.chance.randint(1, 6))]
        bus.touch()
        self.world.trace.note(f"! broker drops {bus.drops_next}")
        self.world.trace.count("broker: drops")

    def broker_refuses(self) -> None:
        bus = self.world.bus
        bus.refuses = self.chance.choice(("/accounts/", "/keys/", "account00001", "/service/"))
        bus.touch()
        self.world.trace.note(f"! broker refuses {bus.refuses}")

        crashes = self.chance.random() < 0.6

        def mend() -> None:
            if crashes:
                # What is accepted from now on is lost again.
                self._come_back_as_now(within=self.chance.uniform(12, 40))
            bus.refuses = ""
            bus.touch()

        self.later(mend)
        if crashes:
            self.disable()

    def broker_comes_back_older(self) -> None:
        """It acknowledged before it was durable."""
        self._come_back_as_now(within=self.chance.choice((5.0, 60.0, 600.0)))

    def _come_back_as_now(self, *, within: float) -> None:
        bus, was = self.world.bus, self.world.bus.memory.copy()

        def crash() -> None:
            self.world.trace.note("! broker comes back as it was")
            self.world.trace.count("broker: came back older")
            if not any(topic.endswith("/service/marker") for topic in was.retained):
                self.oracle.bus.excuse()
            bus.crash(was)

        self.later(crash, often=1, within=within)

    def broker_comes_back_empty(self) -> None:
        self.world.trace.note("! broker comes back empty")
        self.world.trace.count("broker: came back empty")
        self.oracle.bus.excuse()
        self.world.bus.crash(Memory())

    # --- the process

    def crash(self) -> None:
        self.world.trace.note("! crash")
        self.world.crash(downtime=self.chance.choice(DOWNTIMES) * self.chance.uniform(0.2, 1))

    def crash_at_a_call(self) -> None:
        """Somewhere in what comes next, before or after a port call."""
        life = self.world.life
        self.world.downtime = self.chance.choice(DOWNTIMES[:4]) * self.chance.uniform(0.2, 1)
        life.places = self.chance.choice(PLACES)
        life.doomed = self.chance.randint(1, 12 if life.places else 200)
        self.world.trace.note(f"! doomed {life.places} {life.doomed}")
        if self.chance.random() < 0.7:
            self.rotate()
        if self.chance.random() < 0.3:
            self.disable()

    def stop(self) -> None:
        self.world.stop_in_order(downtime=self.chance.choice(DOWNTIMES[:4]) * self.chance.uniform(0.2, 1))

    # --- operators

    def account(self) -> tuple[Customer, AccountId]:
        customer = self.customer()
        return customer, self.chance.choice(customer.accounts)

    def reveal(self) -> None:
        _, account = self.account()
        self.world.operate("reveal", lambda: self.oracle.uses.reveal(account))

    def reveal_for_a_while(self) -> None:
        """Something uses an account key all the time, through whatever happens to it."""
        _, account = self.account()
        every, times = self.chance.choice((0.3, 2.0, 20.0)), self.chance.randint(5, 25)

        async def go_on() -> None:
            await self.oracle.uses.protect(account, self.chance.randbytes(8))
            for _ in range(times):
                await self.oracle.uses.reveal(account)
                await asyncio.sleep(every)

        self.world.operate("uses", go_on)
        row = self.oracle.rows.accounts.get(account)
        found = None if row is None else self.oracle.rows.versions.get(row.version or 0)
        if found is None or self.chance.random() < 0.3:
            return
        vault = self.world.vaults.vaults[found.target.key.host]
        version = vault.version(found.target.key)
        if version is not None:

            def disabled() -> None:
                self._enable(vault, version, enabled=False)
                self.hint(vault)

            self.later(disabled, often=1, within=2.5 * every)
            self.later(lambda: self._enable(vault, version, enabled=True), within=120.0)

    def protect(self) -> None:
        _, account = self.account()
        content = self.chance.randbytes(self.chance.randint(1, 40))
        self.world.operate("protect", lambda: self.oracle.uses.protect(account, content))

    def check(self) -> None:
        vault, _ = self.place()
        watches = [row.watch for row in self.oracle.rows.versions.values() if row.target.key.host == vault.host]

        async def checking() -> None:
            for watch in dict.fromkeys(watches):
                await self.world.service.scheduler.check_now(WatchId(watch))
                self.world.trace.count("operator: checked")

        self.world.operate("check", checking)

    def move_account(self) -> None:
        """Create it where it is not, or give it another key, or the system key."""
        customer, account = self.account()
        number = int(account.name.removeprefix("account"))
        keys: list[KeyIdentifier | None] = [*customer.keys, None]
        self._apply(customer, number, self.chance.choice(keys))

    def move_during_a_rewrap(self) -> None:
        """An operator gives an account another key while its account key is being moved to a newer version."""
        customer, account = self.account()
        row = self.oracle.rows.accounts.get(account)
        found = None if row is None else self.oracle.rows.versions.get(row.version or 0)
        if found is None or found.pinned:
            return
        vault, name = self.world.vaults.vaults[found.target.key.host], found.target.key.name
        if not self.may_rotate(vault, name):
            return
        self.change(vault, "rotate", name)
        vault.rotate(name)
        self.hint(vault, name)
        number = int(account.name.removeprefix("account"))
        others: list[KeyIdentifier | None] = [key for key in customer.keys if key.name != name or key.version]
        key = self.chance.choice([*others, None])
        self.later(lambda: self._apply(customer, number, key), often=1, within=self.chance.uniform(0.07, 0.16))

    def recreate_account(self) -> None:
        customer, account = self.account()
        number, key = int(account.name.removeprefix("account")), self.chance.choice(customer.keys)
        again = self.chance.random() < 0.8

        async def recreating() -> None:
            try:
                await self.world.service.registrar.delete(account)
                self.world.trace.count("operator: deleted")
                if again:
                    await self._applied(customer, number, key)
            except StoreUnavailableError:
                self.world.trace.count("operator: outcome unknown")

        self.world.operate("recreate", recreating)

    def _apply(self, customer: Customer, number: int, key: KeyIdentifier | None) -> None:
        async def applying() -> None:
            try:
                await self._applied(customer, number, key)
            except StoreUnavailableError:
                self.world.trace.count("operator: outcome unknown")

        self.world.operate("apply", applying)

    async def _applied(self, customer: Customer, number: int, key: KeyIdentifier | None) -> None:
        self.world.vaults.tag(key, account_id(number))
        try:
            result = await self.world.service.registrar.apply(spec_of(number, customer, key))
        except RuntimeError:
            return  # a defect at the edge: the operator sees it
        self.world.trace.note(f"applied {number} {result.action} {result.message}")
        self.world.trace.count(f"operator: {Action(result.action)}")

    def reload(self) -> None:
        """Other settings, in the same process."""
        if self.world.is_up:

            async def reloading() -> None:
                daemon: Daemon | None = self.world._daemon
                if daemon is not None and daemon.has_started:
                    self.world.touch()
                    await self.world.reload()
                    self.world.trace.count("reloads")

            self.world.operate("reload", reloading)

    def settle_brake(self) -> None:
        """Say whether what the brake holds is true."""
        confirms = self.chance.random() < 0.5

        async def settling() -> None:
            self.world.confirmed_by_operator |= confirms
            cause = ReleaseCause.CONFIRMED if confirms else ReleaseCause.DISCARDED
            try:
                settled = await self.world.service.brakeman.settle(cause)
            except (StaleError, StoreUnavailableError):
                return  # an operator tries again
            if settled is not None:
                self.world.touch()
                self.world.trace.count(f"brake settled: {cause}")

        self.world.operate("brake", settling)

    def hint_falsely(self) -> None:
        self.world.trace.count("false hints")
        self.hint(self.place()[0])

    def flood_with_hints(self) -> None:
        self.world.trace.count("floods of hints")
        vault, _ = self.place()
        for number in range(40):
            self.later(lambda: self.hint(vault) and None, often=1, within=number * 0.05)

    # --- and then all is well

    def calm(self) -> None:
        """End all bad luck; most keys are given back, some stay revoked."""
        self.is_calm = True
        for back in self.catching_up:
            back()
        world = self.world
        between, store, bus = world.vaults.between, world.store, world.bus
        between.silence = None
        between.identities.clear()
        between.touch()
        store.fails.clear()
        store.loses = None
        store.fails_all, bus.down, bus.refuses, bus.drops_next = False, False, "", []
        world.life.doomed = None
        bus.touch()
        for vault in world.vaults.all():
            self.change(vault, "calm")
            vault.faults.clear()
            vault.latency, vault.gone, vault.blocked = 0.02, False, False
            if self.chance.random() < 0.75:
                for key in vault.keys.values():
                    key.deleted = False
                    for version in key.versions:
                        version.enabled, version.operations = True, WRAPPING
                        version.not_before = version.expires = None
                for identity in vault.grants:
                    vault.grants[identity] = GRANTED
            else:
                world.trace.count("vaults left as they were")
        world.touch()
