"""Rotation of service keys, with real key files, a real store and real seals; vaults are not asked."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from sqlalchemy import insert, update

from byokd.adapters.sealing.account_cipher import HkdfAccountCipher
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.adapters.sql.tables import account_keys, protected_values
from byokd.domain.payload import Payload
from byokd.ports import SealContext, ServiceKey, ServiceKeysUnusableError
from byokd.records import KeyPlacement, Rotation
from byokd.runtime import resealer as resealing
from byokd.runtime.layers import Layers
from byokd.runtime.metrics import Metrics
from byokd.runtime.resealer import Resealer
from byokd.runtime.service_keys import prove_service_keys
from store.builders import KEY, START, CountingIds, account_id, auditor, finish, placement, spec, version
from store.memory import empty_inline


class KilledError(BaseException):
    """The process ended here."""


class Mortal:
    """A store whose process ends at the n-th call, before or after what was called for."""

    def __init__(self, store: Any, *, at: int | None, after: bool) -> None:  # noqa: ANN401
        self._store, self._left, self._after = store, at, after

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def called(*args: object, **kwargs: object) -> object:
            if self._left is not None:
                self._left -= 1
            if self._left == 0 and not self._after:
                raise KilledError
            result = await method(*args, **kwargs)
            if self._left == 0:
                raise KilledError
            return result

        return called


class Bytes:
    def __init__(self) -> None:
        self._random = Random(7)  # noqa: S311 - repeatable

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class StandingClock:
    def now(self):  # noqa: ANN201
        return START

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - as the port
        raise AssertionError("nothing waits here")


@dataclass
class House:
    """A directory of keys, a store, and whatever a process makes of them when it starts."""

    directory: Path
    made: dict[str, Payload] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.randomness: Any = Bytes()
        self.store = empty_inline(CountingIds(), auditor())
        for kind in ServiceKey:
            self.add(kind, 1)
        self.start()

    def add(self, kind: str, number: int) -> None:
        path = self.directory / f"{kind}.{number}.key"
        path.touch(mode=0o600)
        path.write_bytes(os.urandom(32))

    def ids(self, kind: str) -> list[int]:
        return sorted(int(path.name.split(".")[1]) for path in self.directory.glob(f"{kind}.*.key"))

    def start(self) -> None:
        """As a daemon does: read the keys, prove them, begin to work."""
        self.sealer = AesGcmSealer(FileServiceKeys(self.directory), self.randomness)
        self.cipher = HkdfAccountCipher(self.randomness)
        finish(prove_service_keys(self.store, self.sealer))
        self.layers = Layers(self.sealer, self.cipher)
        self.resealer = self.new_resealer(self.store)

    def new_resealer(self, store: Any) -> Resealer:  # noqa: ANN401
        return Resealer(store, self.layers, self.sealer, clock=StandingClock(), metrics=Metrics())

    def create(self, number: int, *, customer: bool) -> None:
        account = account_id(number)
        payload = Payload.bind(self.randomness.bytes(32), account=account, generation=1)
        key = KEY.at(version(1)) if customer else None
        sealed = self.layers.wrap(
            payload, account, by_customer=None if key is None else (key, b"wrapped in the vault" * 9)
        )
        placed = KeyPlacement(key, sealed, placement(1).first_version if customer else None)
        made = spec(number, key=KEY if customer else None)
        finish(self.store.create_account(made, placed, incarnation=f"life-{number}", now=START))
        self.made[str(account)] = payload
        self.protect(number, b"a content key")

    def protect(self, number: int, plaintext: bytes) -> None:
        account = account_id(number)
        context = SealContext(account, kind="content-key", name="one", generation=1, key_identifier="")
        inner = self.cipher.encrypt(self.made[str(account)].account_key, plaintext, context=context)
        data = self.sealer.seal(ServiceKey.STORAGE, inner, context=context)
        row = {
            "account": str(account),
            "kind": "content-key",
            "name": "one",
            "revision": 1,
            "sealed": data,
            "storage_key": self.sealer.newest(ServiceKey.STORAGE),
            "created_at": START,
            "updated_at": START,
        }
        finish(self.store._runner.write(lambda c: c.execute(insert(protected_values), row)))

    def go_on(self, *, killed_at: int | None = None, after: bool = False) -> None:
        """What the daemon's task does with an order; a killed process starts anew."""
        try:
            finish(self.new_resealer(Mortal(self.store, at=killed_at, after=after)).carry_out())
        except KilledError:
            self.start()

    def prove_all(self) -> None:
        keys = finish(self.store.stored_keys(after=None, limit=1000))
        assert len(keys) == len(self.made)
        for stored in keys:
            wrap = self.layers.uncover(stored.wrapped)
            payload = self.made[str(stored.wrapped.account)]
            assert wrap.check_value == self.cipher.check_value(payload.account_key)
            if stored.wrapped.key_identifier is None:
                assert self.layers.unwrap(stored.wrapped, wrap) == payload
            else:
                assert wrap.inner == b"wrapped in the vault" * 9
            for value in finish(self.store.values_of(stored.wrapped.account, after=None, limit=9)):
                self.layers.prove_value(value, payload.account_key)

    def drop_free(self) -> list[str]:
        free = list(finish(self.resealer.ring()).free)
        for name in free:
            (self.directory / f"{name}.key").unlink()
        self.start()
        return free


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(resealing, "BATCH", 2)
    return House(tmp_path)


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(["storage", "system", "audit"])),
    st.tuples(st.just("create"), st.booleans()),
    st.tuples(st.just("order"), st.none()),
    st.tuples(st.just("go on"), st.none()),
    st.tuples(st.just("killed"), st.tuples(st.integers(1, 12), st.booleans())),
    st.tuples(st.just("drop"), st.none()),
)


@given(st.lists(STEPS, max_size=14))
@settings(max_examples=30, deadline=None)
def test_whatever_is_added_rotated_killed_and_taken_away_everything_opens(steps: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(resealing, "BATCH", 2)
        house = House(Path(directory))
        for number in range(1, 6):
            house.create(number, customer=number % 2 == 0)
        for step, detail in steps:
            if step == "add":
                house.add(detail, house.ids(detail)[-1] + 1)
                house.start()
            elif step == "create":
                house.create(len(house.made) + 1, customer=detail)
            elif step == "order":
                finish(house.resealer.order())
            elif step == "go on":
                house.go_on()
            elif step == "killed":
                house.go_on(killed_at=detail[0], after=detail[1])
            else:
                house.drop_free()
            house.prove_all()
        finish(house.resealer.order())
        house.go_on()
        house.drop_free()
        house.prove_all()
        assert len(house.ids("storage")) == len(house.ids("system")) == 1
        finish(house.store.close())


def test_nothing_moves_before_it_is_ordered_and_everything_after(house: House) -> None:
    for number in (1, 2, 3, 4, 5):
        house.create(number, customer=number == 3)
    house.add("storage", 2)
    house.add("system", 2)
    house.start()
    house.go_on()
    ring = finish(house.resealer.ring())
    assert (ring.remaining, ring.free, ring.rotation) == (10, (), None)
    finish(house.resealer.order())
    house.go_on()
    ring = finish(house.resealer.ring())
    assert ring.remaining == 0
    assert ring.free == ("system.1", "storage.1")
    assert ring.rotation is not None
    assert (ring.rotation.ended_at, ring.rotation.stuck) == (START, 0)
    house.prove_all()
    assert {sealed.wrapped.sealed.storage_key for sealed in finish(house.store.stored_keys(after=None, limit=9))} == {
        "2"
    }


def test_an_order_is_not_carried_over_to_a_key_that_was_put_there_later(house: House) -> None:
    house.create(1, customer=False)
    house.add("storage", 2)
    house.start()
    finish(house.resealer.order())
    house.add("storage", 3)
    house.start()
    house.go_on()
    ring = finish(house.resealer.ring())
    assert (ring.waits, ring.remaining) == (True, 2)
    ring = finish(house.resealer.order())
    assert not ring.waits
    house.go_on()
    assert finish(house.resealer.ring()).remaining == 0


def test_what_does_not_open_is_named_counted_and_holds_nothing_up(house: House) -> None:
    for number in range(1, 8):
        house.create(number, customer=False)
    flip(house, 3)
    house.add("storage", 2)
    house.start()
    finish(house.resealer.order())
    house.go_on()
    ring = finish(house.resealer.ring())
    assert ring.rotation is not None
    assert (ring.remaining, ring.rotation.stuck, ring.free) == (1, 1, ())
    rotation = finish(house.store.begin_rotation(storage_key="2", system_key="1", now=START))
    finish(house.resealer._rotate(rotation))
    (stuck,) = finish(house.resealer.ring()).stuck
    assert stuck.account == str(account_id(3))
    assert stuck.what == "account key, generation 1"
    assert "does not open in its place" in stuck.why
    (house.directory / "storage.1.key").unlink()
    with pytest.raises(ServiceKeysUnusableError, match=r"not there: storage\.1"):
        house.start()


def test_another_key_under_an_id_that_was_known_is_refused_even_where_it_seals_nothing(house: House) -> None:
    house.create(1, customer=False)
    house.add("system", 2)
    house.start()
    finish(house.resealer.order())
    house.go_on()
    assert house.drop_free() == ["system.1"]
    house.add("system", 1)
    with pytest.raises(ServiceKeysUnusableError, match=r"not those that sealed the database: system\.1"):
        house.start()


def test_an_audit_key_may_not_go(house: House) -> None:
    house.add("audit", 2)
    house.start()
    (house.directory / "audit.1.key").unlink()
    with pytest.raises(ServiceKeysUnusableError, match=r"not there: audit\.1"):
        house.start()


def test_a_wrap_that_changes_while_it_is_resealed_is_read_again(house: House) -> None:
    for number in (1, 2, 3):
        house.create(number, customer=False)
    house.add("storage", 2)
    house.start()
    rotation = finish(house.store.begin_rotation(storage_key="2", system_key="1", now=START))

    class Racing(Mortal):
        raced = False

        def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
            if name == "commit_reseal" and not Racing.raced:
                Racing.raced = True
                payload = house.made[str(account_id(1))]
                anew = house.layers.wrap(payload, account_id(1), by_customer=None)
                put(house, 1, sealed=anew.data, storage_key=anew.storage_key)
            return super().__getattr__(name)

    racing = house.new_resealer(Racing(house.store, at=None, after=False))
    drive(racing, rotation)
    house.prove_all()
    assert finish(house.resealer.ring()).remaining == 0


def drive(resealer: Resealer, rotation: Rotation) -> None:
    """Run a rotation that gives way now and then."""
    work = resealer._rotate(rotation)
    while True:
        try:
            work.send(None)
        except StopIteration:
            return


def flip(house: House, number: int) -> None:
    wrapped = finish(house.store.wrapped_key(account_id(number)))
    assert wrapped is not None
    damaged = wrapped.sealed.data[:-1] + bytes([wrapped.sealed.data[-1] ^ 1])
    put(house, number, sealed=damaged)


def put(house: House, number: int, **values: object) -> None:
    row = update(account_keys).where(account_keys.c.account == str(account_id(number))).values(**values)
    finish(house.store._runner.write(lambda c: c.execute(row)))


def test_a_seal_that_does_not_open_again_replaces_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.create(1, customer=False)
    house.create(2, customer=True)
    house.add("storage", 2)
    house.start()
    seal = house.sealer.seal
    rotation = finish(house.store.begin_rotation(storage_key="2", system_key="1", now=START))
    before = finish(house.store.stored_keys(after=None, limit=9))

    def forgetful(key: ServiceKey, plaintext: bytes, *, context: SealContext) -> bytes:
        return seal(key, plaintext[:-1] + b"?", context=context)

    with monkeypatch.context() as patch:
        patch.setattr(house.sealer, "seal", forgetful)
        finish(house.resealer._rotate(rotation))
        ring = finish(house.resealer.ring())
    assert {stuck.why for stuck in ring.stuck} == {
        f"what the {kind} key sealed a moment ago opens as something else" for kind in ("storage", "system")
    }
    assert (ring.remaining, len(ring.stuck)) == (4, 4)
    assert finish(house.store.stored_keys(after=None, limit=9)) == before
    house.prove_all()


@pytest.mark.looptime(start=0, noop_cycles=2)
async def test_the_task_does_what_is_ordered_at_once_and_what_was_ordered_elsewhere_soon(house: House) -> None:
    house.create(1, customer=False)
    house.add("storage", 2)
    house.start()
    task = asyncio.create_task(house.resealer.run())
    await asyncio.sleep(100)
    assert (await house.resealer.ring()).remaining == 2
    await house.resealer.order()
    await asyncio.sleep(0.1)
    assert (await house.resealer.ring()).remaining == 0
    house.create(2, customer=False)
    for table in (account_keys, protected_values):
        await house.store._runner.write(lambda c, t=table: c.execute(update(t).values(storage_key="1")))
    await house.store.begin_rotation(storage_key="2", system_key="1", now=START)
    await asyncio.sleep(31)
    rotation = await house.store.rotation()
    assert rotation is not None
    assert (rotation.ended_at, rotation.stuck) == (START, 4)
    task.cancel()
