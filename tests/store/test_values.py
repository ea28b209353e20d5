"""Protected values in the store, and the gate."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from byokd.adapters.sql.tables import protected_values
from byokd.domain.values import ValueInfo, ValueName, ValueRef
from byokd.domain.vocabulary import Outcome, Reason, ValueKind
from byokd.ports import StaleError, TooManyError
from byokd.records import ProtectedValue
from store.builders import (
    KEY,
    Stage,
    account_id,
    at,
    commit_rewrap,
    denial,
    sealed,
    suspicion,
    unverified,
    usability,
    version,
)

ONE = ValueRef(ValueKind.CONTENT_KEY, ValueName("one"))
TWO = ValueRef(ValueKind.TOKEN_KEY, ValueName("one"))


def made(ref: ValueRef = ONE, *, revision: int = 1, data: bytes = b"sealed value") -> ProtectedValue:
    return ProtectedValue(ref, revision, data, "storage-1")


async def test_a_value_is_written_read_told_of_replaced_and_erased(stage: Stage) -> None:
    account = await stage.create()
    assert await stage.store.value(account, ONE) is None
    written = await stage.store.put_value(account, made(), most=5, now=at(1))
    assert written == ValueInfo(ONE, 1, at(1), at(1))
    await stage.store.put_value(account, made(TWO), most=5, now=at(2))
    again = await stage.store.put_value(account, made(revision=2, data=b"newer"), most=5, now=at(3))
    assert again == ValueInfo(ONE, 2, at(1), at(3))
    assert await stage.store.value(account, ONE) == made(revision=2, data=b"newer")
    assert await stage.store.values(account) == [again, ValueInfo(TWO, 1, at(2), at(2))]
    assert await stage.store.remove_value(account, ONE)
    assert not await stage.store.remove_value(account, ONE)
    assert [info.ref for info in await stage.store.values(account)] == [TWO]


@pytest.mark.parametrize("revision", [1, 3, 4])
async def test_only_the_next_revision_is_taken(stage: Stage, revision: int) -> None:
    account = await stage.create()
    for number in (1, 2):
        await stage.store.put_value(account, made(revision=number), most=5, now=at(1))
    if revision == 3:
        await stage.store.put_value(account, made(revision=3), most=5, now=at(2))
        return
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.put_value(account, made(revision=revision), most=5, now=at(2))
    assert await stage.contents() == before


async def test_a_further_value_than_the_bound_is_refused_and_changes_are_not(stage: Stage) -> None:
    account = await stage.create()
    other = await stage.create(2)
    await stage.store.put_value(account, made(), most=1, now=at(1))
    with pytest.raises(TooManyError):
        await stage.store.put_value(account, made(TWO), most=1, now=at(1))
    with pytest.raises(StaleError):
        await stage.store.put_value(account, made(), most=1, now=at(1))
    await stage.store.put_value(account, made(revision=2), most=1, now=at(1))
    await stage.store.put_value(other, made(), most=1, now=at(1))


async def test_after_a_committed_denial_nothing_is_written_however_it_was_begun(stage: Stage) -> None:
    account = await stage.create()
    await stage.store.put_value(account, made(), most=5, now=at(1))
    await stage.decide(**denial())
    before = await stage.contents()
    for value in (made(TWO), made(revision=2)):
        with pytest.raises(StaleError):
            await stage.store.put_value(account, value, most=5, now=at(2))
    assert await stage.contents() == before
    assert await stage.store.value(account, ONE) == made(), "to list and to erase needs no key"
    assert await stage.store.remove_value(account, ONE)
    await stage.decide(**usability())
    await stage.store.put_value(account, made(), most=5, now=at(3))


async def test_the_denial_of_the_version_that_wraps_the_key_now_is_what_counts(stage: Stage) -> None:
    account = await stage.create()
    await stage.adopt(2)
    await stage.decide(**denial())
    await stage.store.put_value(account, made(), most=5, now=at(2))
    await stage.decide(**usability())
    work = await stage.work()
    await commit_rewrap(stage.store, work, sealed(b"sealed wrap 2"), now=at(61))
    await stage.decide(**denial())
    with pytest.raises(StaleError):
        await stage.store.put_value(account, made(revision=2), most=5, now=at(62))


async def test_values_go_with_their_account_and_are_not_the_next_ones(stage: Stage) -> None:
    account = await stage.create()
    await stage.store.put_value(account, made(), most=5, now=at(1))
    await stage.store.delete_account(account.id, now=at(2))
    assert await stage.rows(select(protected_values.c.name)) == []
    with pytest.raises(StaleError):
        await stage.store.put_value(account, made(), most=5, now=at(2))
    anew = await stage.create()
    with pytest.raises(StaleError):
        await stage.store.put_value(account, made(), most=5, now=at(3))
    await stage.store.put_value(anew, made(), most=5, now=at(3))
    assert await stage.store.value(account, ONE) is None
    assert await stage.store.values(account) == []
    assert not await stage.store.remove_value(account, ONE)
    assert await stage.store.value(anew, ONE) is not None


async def test_the_gate_shows_account_wrap_and_verdict(stage: Stage) -> None:
    assert await stage.store.gate(account_id()) is None
    account = await stage.create()
    gate = await stage.store.gate(account.id)
    assert gate is not None
    assert gate.account == account
    assert (gate.wrapped.generation, gate.wrapped.key_identifier) == (1, KEY.at(version(1)))
    assert gate.wrapped.sealed == sealed(b"sealed wrap 1")
    assert gate.wrapped == await stage.store.wrapped_key(account.id)
    assert gate.standing is not None
    assert (gate.standing.outcome, gate.standing.reason, gate.is_suspected) == (Outcome.USABLE, None, False)
    await stage.decide(**suspicion(await stage.watch()), **unverified())
    gate = await stage.store.gate(account.id)
    assert gate is not None
    assert gate.is_suspected
    await stage.decide(**denial(Reason.KEY_DISABLED), suspicion=None)
    gate = await stage.store.gate(account.id)
    assert gate is not None
    assert gate.account == account, "its own row follows later"
    assert gate.standing is not None
    assert (gate.standing.outcome, gate.standing.reason) == (Outcome.DENIED, Reason.KEY_DISABLED)
    assert gate.standing.message == "denied: KeyDisabled"


async def test_the_gate_of_an_account_under_the_system_key_has_no_verdict(stage: Stage) -> None:
    account = await stage.create(key=None)
    gate = await stage.store.gate(account.id)
    assert gate is not None
    assert gate.account == replace(account)
    assert gate.standing is None
    await stage.store.put_value(account, made(), most=5, now=at(1))
