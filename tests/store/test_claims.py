"""An identity serves one customer tenant, unless it is shared: in the transaction, and whoever else is at it."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import select

from byokd.adapters.sql.tables import identity_claims, watches
from byokd.domain.accounts import Account, AccountSpec, CustomerKey
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.domain.vocabulary import EventType, State
from byokd.ports import ExistsError, IdentityTakenError, StaleError
from byokd.records import Claim, KeyPlacement
from store.builders import (
    IDENTITY,
    KEY,
    START,
    TENANT,
    CountingIds,
    Stage,
    account_id,
    at,
    auditor,
    decision,
    denial,
    finish,
    placement,
    spec,
)
from store.memory import empty_inline

OTHERS = TenantId("99999999-2222-3333-4444-555555555555")
SPARE = IdentityName("spare")
OTHER_KEY = KeyIdentifier(VaultHost("fabrikam.vault.azure.net"), "other")
CLAIMS = select(identity_claims.c.identity, identity_claims.c.tenant).order_by(identity_claims.c.identity)


def of_others(number: int = 2, *, identity: IdentityName = IDENTITY) -> AccountSpec:
    return AccountSpec(account_id(number), OTHERS, "westeurope", CustomerKey(identity, OTHER_KEY))


def attached(number: int, tenant: TenantId, identity: IdentityName = IDENTITY) -> AccountSpec:
    return AccountSpec(account_id(number), tenant, "westeurope", None, identity)


async def create(stage: Stage, wanted: AccountSpec, claim: Claim = Claim.EXCLUSIVE) -> Account:
    stage.lives += 1
    made = placement(key=None if wanted.customer_key is None else wanted.customer_key.key)
    return await stage.store.create_account(wanted, made, incarnation=f"life-{stage.lives}", now=START, claim=claim)


async def test_an_identity_of_one_customer_is_refused_to_another_and_nothing_is_written(stage: Stage) -> None:
    await stage.create()
    before = await stage.contents()
    assert before["identity_claims"] == [(IDENTITY, TENANT)]
    assert not await stage.store.may_claim(of_others(), Claim.EXCLUSIVE)
    assert await stage.store.may_claim(of_others(), Claim.SHARED)
    assert await stage.store.may_claim(spec(2), Claim.EXCLUSIVE)
    assert await stage.store.may_claim(of_others(identity=SPARE), Claim.EXCLUSIVE)
    for wanted in (of_others(), attached(2, OTHERS)):
        with pytest.raises(IdentityTakenError):
            await create(stage, wanted)
    assert await stage.contents() == before
    await create(stage, of_others(identity=SPARE))


async def test_of_two_customers_at_once_one_gets_the_identity(stage: Stage) -> None:
    made = await asyncio.gather(
        create(stage, spec(1)), create(stage, of_others(2)), create(stage, attached(3, OTHERS)), return_exceptions=True
    )
    tenants = {one.spec.tenant for one in made if isinstance(one, Account)}
    assert len(tenants) == 1
    assert {type(one) for one in made if not isinstance(one, Account)} <= {IdentityTakenError, StaleError}
    assert {tenant for _, tenant in await stage.rows(CLAIMS)} == tenants


async def test_the_last_account_that_goes_sets_its_identity_free(stage: Stage) -> None:
    await stage.create(1)
    await create(stage, attached(3, TENANT))
    await stage.store.delete_account(account_id(1), now=at(1))
    assert await stage.rows(CLAIMS) == [(IDENTITY, TENANT)]
    await stage.store.delete_account(account_id(3), now=at(1))
    assert await stage.rows(CLAIMS) == []
    await create(stage, of_others())


async def test_a_shared_identity_serves_all_and_is_exclusive_again_when_it_serves_one(stage: Stage) -> None:
    await create(stage, spec(1), Claim.SHARED)
    await create(stage, of_others(2), Claim.SHARED)
    assert await stage.rows(CLAIMS) == [(IDENTITY, None)]
    for wanted in (spec(3), of_others(3)):
        with pytest.raises(IdentityTakenError):
            await create(stage, wanted)
    await stage.store.delete_account(account_id(1), now=at(1))
    await create(stage, of_others(3))
    assert await stage.rows(CLAIMS) == [(IDENTITY, OTHERS)]


async def test_an_attached_identity_is_claimed_before_there_is_a_key(stage: Stage) -> None:
    account = await create(stage, attached(1, TENANT))
    assert account == await stage.account()
    assert account.spec.identity == IDENTITY
    with pytest.raises(IdentityTakenError):
        await create(stage, of_others())
    other = await stage.store.update_account(account, attached(1, TENANT, SPARE), None, now=at(1))
    assert other == await stage.account()
    assert await stage.rows(CLAIMS) == [(SPARE, TENANT)]
    keyed = await stage.store.update_account(other, spec(1), placement(), now=at(2))
    assert (keyed.spec.attached, keyed.spec.identity) == (None, IDENTITY)
    assert await stage.rows(CLAIMS) == [(IDENTITY, TENANT)]
    assert [row.data.get("changed") for row in await stage.history()] == [
        None,
        "identity",
        "encryption,identity",
    ]


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken by another customer"])
async def test_the_last_account_that_moves_away_sets_its_identity_free(stage: Stage, taken: bool) -> None:  # noqa: FBT001 - drawn
    await stage.create()
    await stage.create(3)
    other = replace(spec(), customer_key=CustomerKey(SPARE, KEY))
    await stage.store.update_account(await stage.account(), other, placement(), now=at(1))
    with pytest.raises(IdentityTakenError):
        await create(stage, of_others())
    await stage.store.update_account(await stage.account(3), replace(other, id=account_id(3)), placement(), now=at(1))
    assert await stage.rows(CLAIMS) == [(IDENTITY, TENANT), (SPARE, TENANT)], "former wraps are still there"
    if taken:
        await create(stage, of_others())
        assert await stage.rows(CLAIMS) == [(IDENTITY, OTHERS), (SPARE, TENANT)]
    await stage.store.settle(before=at(2), now=at(20))
    assert await stage.rows(CLAIMS) == [*([(IDENTITY, OTHERS)] if taken else []), (SPARE, TENANT)]


async def test_moving_to_an_identity_of_another_customer_is_refused(stage: Stage) -> None:
    account = await stage.create()
    await create(stage, of_others(identity=SPARE))
    before = await stage.contents()
    stolen = replace(spec(), customer_key=CustomerKey(SPARE, KEY))
    for wanted, moved in ((stolen, placement()), (attached(1, TENANT, SPARE), placement(key=None))):
        with pytest.raises(IdentityTakenError):
            await stage.store.update_account(account, wanted, moved, now=at(1))
    assert await stage.contents() == before


async def test_an_inaccessible_account_is_repaired_with_another_identity_and_tenant(stage: Stage) -> None:
    account = await stage.create()
    wanted = AccountSpec(account.id, OTHERS, "westeurope", CustomerKey(SPARE, KEY))
    with pytest.raises(StaleError):
        await stage.store.repair_account(account, wanted, placement(), now=at(1))
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(1))
    closed = await stage.account()
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.repair_account(account, wanted, placement(), now=at(2))
    for odd in (replace(wanted, id=account_id(2)), replace(wanted, customer_key=None)):
        with pytest.raises(ValueError, match="a repair leaves"):
            await stage.store.repair_account(closed, odd, placement(key=None), now=at(2))
    assert await stage.contents() == before
    opened = await stage.store.repair_account(closed, wanted, placement(wrap=b"anew"), now=at(2))
    assert opened == await stage.account()
    assert (opened.spec, opened.state, opened.generation) == (wanted, State.ACCESSIBLE, 2)
    assert opened.watch != closed.watch
    updated, accessible = (await stage.history())[-2:]
    assert (updated.type, updated.data["changed"]) == (EventType.ACCOUNT_UPDATED, "encryption,identity,tenant")
    assert (accessible.type, accessible.data["previousState"]) == (EventType.ACCOUNT_ACCESSIBLE, "Inaccessible")
    assert dict(await stage.rows(CLAIMS))[SPARE] == OTHERS


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside another account"])
async def test_an_account_takes_its_identity_to_another_tenant_if_no_other_account_has_it(
    stage: Stage,
    alone: bool,  # noqa: FBT001 - drawn
) -> None:
    await stage.create()
    if not alone:
        await stage.create(2)
    await stage.decide(**denial())
    await stage.store.follow(limit=10, now=at(1))
    closed = await stage.account()
    wanted = replace(closed.spec, tenant=OTHERS)
    assert await stage.store.may_claim(wanted, Claim.EXCLUSIVE) is alone
    if alone:
        opened = await stage.store.repair_account(closed, wanted, placement(), now=at(2))
        assert (opened.spec.tenant, opened.state) == (OTHERS, State.ACCESSIBLE)
        assert await stage.rows(CLAIMS) == [(IDENTITY, OTHERS)]
    else:
        with pytest.raises(IdentityTakenError):
            await stage.store.repair_account(closed, wanted, placement(), now=at(2))


IDENTITIES = st.sampled_from([IDENTITY, SPARE, None])
TENANTS = st.sampled_from([TENANT, OTHERS])
NUMBERS = st.integers(1, 4)


class Customers(RuleBasedStateMachine):
    """Two tenants that create, change, lose and delete accounts in any order, with two identities and what is stale."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(empty_inline(CountingIds(), auditor()))
        self.store = self.stage.store
        self.minute = 0
        self.seen: list[Account] = []

    def teardown(self) -> None:
        finish(self.store.close())

    def attempt(self, work: Coroutine[Any, Any, object]) -> None:
        self.minute += 1
        before = self.contents()
        try:
            finish(work)
        except (StaleError, ExistsError, IdentityTakenError):
            assert self.contents() == before
        self.seen += finish(self.store.accounts())

    def contents(self) -> object:
        return finish(self.store.accounts()), finish(self.stage.rows(CLAIMS)), finish(self.store.heads())

    def wanted(
        self, number: int, tenant: TenantId, identity: IdentityName | None, *, keyed: bool
    ) -> tuple[AccountSpec, KeyPlacement]:
        key = (KEY if tenant == TENANT else OTHER_KEY) if keyed and identity is not None else None
        customer_key = None if key is None or identity is None else CustomerKey(identity, key)
        rest = identity if customer_key is None else None
        return AccountSpec(account_id(number), tenant, "westeurope", customer_key, rest), placement(key=key)

    @rule(number=NUMBERS, tenant=TENANTS, identity=IDENTITIES, keyed=st.booleans())
    def create(self, number: int, tenant: TenantId, identity: IdentityName | None, keyed: bool) -> None:  # noqa: FBT001 - drawn
        wanted, made = self.wanted(number, tenant, identity, keyed=keyed)
        self.stage.lives += 1
        life = f"life-{self.stage.lives}"
        self.attempt(self.store.create_account(wanted, made, incarnation=life, now=at(self.minute)))

    @rule(data=st.data(), identity=IDENTITIES, keyed=st.booleans())
    def update(self, data: st.DataObject, identity: IdentityName | None, keyed: bool) -> None:  # noqa: FBT001 - drawn
        if self.seen:
            known = data.draw(st.sampled_from(self.seen[-8:]))
            wanted, made = self.wanted(_number(known), known.spec.tenant, identity, keyed=keyed)
            same = wanted.customer_key == known.spec.customer_key
            self.attempt(self.store.update_account(known, wanted, None if same else made, now=at(self.minute)))

    @rule(data=st.data(), tenant=TENANTS, identity=st.sampled_from([IDENTITY, SPARE]))
    def lose_and_repair(self, data: st.DataObject, tenant: TenantId, identity: IdentityName) -> None:
        found = [watch for watch in finish(self.store.watches()) if watch.current_version.verdict.reason is None]
        if found:
            watch = data.draw(st.sampled_from(found))
            self.attempt(self.store.commit_decision(watch, decision(watch, **denial()), now=at(self.minute)))
            self.attempt(self.store.follow(limit=10, now=at(self.minute)))
        closed = [one for one in finish(self.store.accounts()) if one.state is State.INACCESSIBLE]
        if closed:
            known = data.draw(st.sampled_from(closed))
            wanted, made = self.wanted(_number(known), tenant, identity, keyed=True)
            self.attempt(self.store.repair_account(known, wanted, made, now=at(self.minute)))

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        self.attempt(self.store.delete_account(account_id(number), now=at(self.minute)))

    @rule()
    def settle(self) -> None:
        self.minute += 1
        finish(self.store.settle(before=START + timedelta(minutes=self.minute), now=at(self.minute + 1)))

    @invariant()
    def no_identity_serves_two_and_claims_are_what_is_in_use(self) -> None:
        serves: defaultdict[str, set[str]] = defaultdict(set)
        lingering = {identity for (identity,) in finish(self.stage.rows(select(watches.c.identity)))}
        for account in finish(self.store.accounts()):
            if account.spec.identity is not None:
                serves[account.spec.identity].add(account.spec.tenant)
        assert all(len(tenants) == 1 for tenants in serves.values()), serves
        claims = dict(finish(self.stage.rows(CLAIMS)))
        assert claims.keys() == serves.keys() | lingering
        assert {name: claims[name] for name in serves} == {name: min(tenants) for name, tenants in serves.items()}


TestCustomers = Customers.TestCase


def _number(account: Account) -> int:
    return int(account.id.name.removeprefix("account"))
