"""Whatever happens in whatever order: no gaps, nothing silent, nothing written by what was refused."""

from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import text

from byokd.domain.accounts import Account
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import EventType
from byokd.ports import ExistsError, StaleError
from byokd.records import KeyPlacement, RewrapWork
from store.builders import (
    KEY,
    CountingIds,
    Stage,
    account_id,
    adoption,
    at,
    auditor,
    commit_rewrap,
    decision,
    denial,
    finish,
    placement,
    sealed,
    spec,
    target,
    unverified,
    usability,
    version,
)
from store.memory import empty_inline

NUMBERS = st.integers(1, 3)
PINNED = KEY.at(version(1))
KEYS = st.sampled_from([KEY, PINNED, None])
VERDICTS = st.sampled_from(
    [denial(), usability(), unverified(), unverified(told=False), usability() | {"unverified": None}]
)


class StoreMachine(RuleBasedStateMachine):
    """Random use of a store, also with what was read before and is stale by now."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(empty_inline(CountingIds(), auditor()))
        self.store = self.stage.store
        self.minute = 0
        self.newest = 1
        self.accounts: list[Account] = []
        self.watches: list[Watch] = []
        self.work: list[RewrapWork] = []

    def teardown(self) -> None:
        finish(self.store.close())

    def attempt(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a transaction; if it is refused, it must have written nothing."""
        self.minute += 1
        before = finish(self.stage.contents())
        try:
            finish(work)
        except (StaleError, ExistsError):
            assert finish(self.stage.contents()) == before
        self.accounts += finish(self.store.accounts())
        self.watches += finish(self.store.watches())

    @rule(number=NUMBERS, key=KEYS)
    def create(self, number: int, key: KeyIdentifier | None) -> None:
        self.stage.lives += 1
        self.attempt(
            self.store.create_account(
                spec(number, key=key),
                self.fitting(key),
                incarnation=f"life-{self.stage.lives}",
                now=at(self.minute),
            )
        )

    def fitting(self, key: KeyIdentifier | None) -> KeyPlacement:
        found = None if key is None else finish(self.store.find_watch(target(key)))
        return placement(1 if found is None else int(found.current_version.version, 16), key=key)

    @rule(data=st.data(), key=KEYS, move=st.booleans())
    def update(self, data: st.DataObject, key: KeyIdentifier | None, move: bool) -> None:  # noqa: FBT001 - drawn, not passed
        if not self.accounts:
            return
        account = data.draw(st.sampled_from(self.accounts[-12:]))
        number = int(account.id.name.removeprefix("account"))
        kept = account.spec.customer_key
        wanted = spec(number, key=key if move else (None if kept is None else kept.key), location=f"l{self.minute}")
        moved = self.fitting(key) if move else None
        self.attempt(self.store.update_account(account, wanted, moved, now=at(self.minute)))

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        self.attempt(self.store.delete_account(account_id(number), now=at(self.minute)))

    @rule(data=st.data(), changes=VERDICTS)
    def decide(self, data: st.DataObject, changes: dict[str, Any]) -> None:
        if self.watches:
            watch = data.draw(st.sampled_from(self.watches[-6:]))
            self.attempt(self.store.commit_decision(watch, decision(watch, **changes), now=at(self.minute)))

    @rule(data=st.data())
    def adopt(self, data: st.DataObject) -> None:
        fitting = [watch for watch in self.watches[-6:] if watch.key.version is None]
        if fitting:
            self.newest += 1
            watch = data.draw(st.sampled_from(fitting))
            self.attempt(self.store.commit_decision(watch, adoption(watch, self.newest), now=at(self.minute)))

    @rule(limit=st.integers(1, 3))
    def follow(self, limit: int) -> None:
        self.attempt(self.store.follow(limit=limit, now=at(self.minute)))

    @rule(data=st.data(), fails=st.booleans())
    def rewrap(self, data: st.DataObject, fails: bool) -> None:  # noqa: FBT001 - drawn, not passed
        self.work += finish(self.store.rewrap_work(limit=3, now=at(self.minute)))
        if not self.work:
            return
        work = data.draw(st.sampled_from(self.work[-6:]))
        now = at(self.minute)
        if fails:
            self.attempt(self.store.rewrap_failed(work, "no", now=now, retry_at=at(self.minute + 2)))
        else:
            self.attempt(commit_rewrap(self.store, work, sealed(b"sealed"), now=now))

    @rule(age=st.integers(0, 5))
    def settle(self, age: int) -> None:
        self.attempt(self.store.settle(before=at(self.minute - age), now=at(self.minute)))

    @rule()
    def claim(self) -> None:
        self.attempt(self.store.claim_vaults("one"))

    @invariant()
    def sequences_have_no_gaps(self) -> None:
        lives: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for row in finish(self.stage.history()):
            if row.account is not None:
                lives[row.account, row.incarnation].append(row)
        for rows in lives.values():
            assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
            assert [row.data["sequence"] for row in rows] == [row.sequence for row in rows]
            assert rows[0].type == EventType.ACCOUNT_CREATED
        alive = {(str(account.id), account.incarnation): account for account in finish(self.store.accounts())}
        for life, account in alive.items():
            told = lives[life][-1]
            assert (told.sequence, told.data["state"]) == (account.sequence, account.state)
            assert told.data["currentKeyIdentifier"] == (None if account.current is None else str(account.current))
        for life, rows in lives.items():
            assert (rows[-1].type == EventType.ACCOUNT_DELETED) == (life not in alive)

    @invariant()
    def every_account_has_its_key_and_a_version_in_use(self) -> None:
        watches = {watch.id: watch for watch in finish(self.store.watches())}
        everybody = finish(self.store.accounts())
        assert {account.watch for account in everybody} - {None} == set(watches)
        for account in everybody:
            wrapped = finish(self.store.wrapped_key(account.id))
            assert wrapped is not None
            assert (wrapped.generation, wrapped.key_identifier) == (account.generation, account.current)
            if account.watch is not None:
                versions = {version.id: version.version for version in watches[account.watch].versions}
                assert account.current is not None
                assert versions[account.wrapping_version] == account.current.version

    @invariant()
    def nobody_stays_behind_once_all_was_carried(self) -> None:
        behind = finish(
            self.stage.rows(
                text(
                    "SELECT count(*) FROM accounts a JOIN wrapping_versions v ON a.wrapping_version = v.id "
                    "WHERE a.followed <> v.number AND v.carried = v.number"
                )
            )
        )
        assert behind == [(0,)]

    @invariant()
    def nothing_refers_to_nothing(self) -> None:
        assert finish(self.stage.rows(text("PRAGMA foreign_key_check"))) == []
        assert finish(
            self.stage.rows(text("SELECT count(*) FROM vaults WHERE host NOT IN (SELECT host FROM watches)"))
        )[0] == (0,)


StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_any_order_of_use = StoreMachine.TestCase
