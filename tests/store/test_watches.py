from dataclasses import replace

import pytest
from sqlalchemy import select

from byokd.adapters.sql.tables import vaults
from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.domain.verdict import Verdict
from byokd.domain.vocabulary import DetectedBy
from byokd.ports import StaleError
from byokd.records import Claim, KeyPlacement
from store.builders import (
    KEY,
    START,
    TENANT,
    Stage,
    at,
    decision,
    facts,
    placement,
    probe,
    sealed,
    spec,
    target,
    version,
)

PINNED = KEY.at(version(1))


async def test_the_first_account_of_a_key_makes_its_watch(stage: Stage) -> None:
    await stage.create()
    (made,) = await stage.store.watches()
    assert (made.identity, made.tenant, made.key) == ("platform", TENANT, KEY)
    assert (made.revision, made.epoch, made.due_at, made.warnings) == (1, 1, START, ())
    (only,) = made.versions
    assert made.current_version is only
    assert (only.version, only.created, only.probe) == (version(1), facts().created, probe())
    assert only.verdict == Verdict.adopted(START, detected_by=DetectedBy.OPERATOR)
    assert made.adopted == {version(1)}


async def test_accounts_of_one_identity_and_key_share_a_watch(stage: Stage) -> None:
    first, second = await stage.create(1), await stage.create(2)
    assert first.watch == second.watch
    assert len(await stage.store.watches()) == 1


async def test_another_identity_tenant_or_pinned_version_is_another_watch(stage: Stage) -> None:
    await stage.create(1)
    await stage.create(2, key=PINNED)
    ours = spec(3)
    by_other_identity = replace(ours.customer_key, identity=IdentityName("other"))
    await stage.store.create_account(
        replace(ours, customer_key=by_other_identity), placement(), incarnation="a", now=START
    )
    other_tenant = TenantId("99999999-2222-3333-4444-555555555555")
    await stage.store.create_account(
        replace(spec(4), tenant=other_tenant), placement(), incarnation="b", now=START, claim=Claim.SHARED
    )
    assert len({watch.id for watch in await stage.store.watches()}) == 4
    assert (await stage.store.find_watch(target(PINNED))).key == PINNED
    assert (await stage.store.find_watch(target())).key == KEY


async def test_an_account_with_the_system_key_has_no_watch(stage: Stage) -> None:
    account = await stage.create(key=None)
    assert (account.watch, account.wrapping_version, account.current) == (None, None, None)
    assert await stage.store.watches() == []


async def test_a_watch_that_does_not_exist_is_none(stage: Stage) -> None:
    assert await stage.store.find_watch(target()) is None
    await stage.create()
    assert await stage.store.watch((await stage.watch()).id + 1) is None


async def test_without_proof_no_watch_is_made(stage: Stage) -> None:
    with pytest.raises(StaleError):
        await stage.store.create_account(spec(), placement(first=False), incarnation="a", now=START)


async def test_an_existing_watch_is_joined_only_on_its_current_version(stage: Stage) -> None:
    await stage.create(1)
    joined = await stage.store.create_account(spec(2), placement(1), incarnation="b", now=START)
    assert joined.current == KEY.at(version(1))
    before = await stage.contents()
    with pytest.raises(StaleError):
        await stage.store.create_account(spec(3), placement(2), incarnation="c", now=START)
    assert await stage.contents() == before


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (spec(key=None), placement()),
        (spec(), placement(key=None)),
        (spec(), KeyPlacement(KEY, sealed(b"sealed"), None)),
        (spec(key=PINNED), placement(2)),
        (spec(), KeyPlacement(replace(KEY, name="another").at(version(1)), sealed(b"sealed"), None)),
        (spec(), replace(placement(2), first_version=placement(1).first_version)),
    ],
    ids=["system key", "customer key", "versionless", "not the pinned one", "another key", "proof of another"],
)
async def test_a_placement_that_contradicts_the_account_is_a_defect(
    stage: Stage, asked: AccountSpec, given: KeyPlacement
) -> None:
    with pytest.raises(ValueError, match=r"disagree|is not a version|another version"):
        await stage.store.create_account(asked, given, incarnation="a", now=START)


async def test_claiming_takes_every_vault_under_a_new_epoch(stage: Stage) -> None:
    assert await stage.store.claim_vaults("one") == 0
    await stage.create()
    assert (await stage.watch()).epoch == 1
    assert await stage.store.claim_vaults("two") == 1
    assert await stage.store.claim_vaults("two") == 1
    assert (await stage.watch()).epoch == 3


async def test_a_new_vault_belongs_to_whoever_claimed_last(stage: Stage) -> None:
    for instance in ("two", "one", "two"):
        await stage.store.claim_vaults(instance)
    await stage.create()
    assert await stage.rows(select(vaults.c.host, vaults.c.holder, vaults.c.epoch)) == [(KEY.host, "two", 1)]


async def test_due_times_are_written_without_touching_the_rest(stage: Stage) -> None:
    await stage.create(1)
    await stage.create(2, key=PINNED)
    first, second = await stage.store.watches()
    await stage.store.record_due({first.id: at(7), second.id + 100: at(8)})
    assert await stage.store.watch(first.id) == replace(first, due_at=at(7))
    assert await stage.store.watch(second.id) == second
    await stage.store.record_due({})


async def test_times_keep_their_microseconds(stage: Stage) -> None:
    await stage.create()
    due = START.replace(microsecond=1)
    await stage.store.commit_decision(await stage.watch(), decision(await stage.watch(), due=due), now=START)
    assert (await stage.watch()).due_at == due
    assert (await stage.watch()).due_at.utcoffset().total_seconds() == 0
