"""The brake in the store: consulted, engaged, guarded, settled in batches, released."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.brake import BrakeMode, Customer, EngagedBy, ReleaseCause, Ruling, Sample, Threshold
from byokd.domain.decide import Decision
from byokd.domain.identifiers import KeyIdentifier, TenantId, VaultHost
from byokd.domain.verdict import Suspicion, Watch
from byokd.domain.vocabulary import EventType, Outcome, Reason, State
from byokd.ports import KeyTarget, StaleError
from byokd.ports.brake import BrakeTerms
from byokd.records import Claim
from store.builders import IDENTITY, START, Stage, account_id, at, decision, denial, placement, usability

HOUR = timedelta(hours=1)
FULL = frozenset(Customer(IDENTITY, TenantId(f"looked{n}"), VaultHost(f"l{n}.vault.azure.net")) for n in range(40))
TERMS = BrakeTerms(Threshold(3, 0.2), BrakeMode.HOLD, HOUR, Sample(at(0.5), FULL), denied_since=at(0.75))


def tenant(number: int) -> TenantId:
    return TenantId(f"{number:08x}-2222-3333-4444-555555555555")


def key(number: int) -> KeyIdentifier:
    return KeyIdentifier(VaultHost(f"customer{number}.vault.azure.net"), "key")


class Fleet:
    """Customers, each with a tenant and a vault of their own."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.store = stage.store

    async def join(self, first: int, last: int, *, of_tenant: int | None = None) -> None:
        for number in range(first, last + 1):
            spec = AccountSpec(
                account_id(number), tenant(of_tenant or number), "westeurope", CustomerKey(IDENTITY, key(number))
            )
            made = placement(key=key(number))
            await self.store.create_account(spec, made, incarnation=f"life-{number}", now=START, claim=Claim.SHARED)

    async def watch(self, number: int, *, of_tenant: int | None = None) -> Watch:
        found = await self.store.find_watch(KeyTarget(IDENTITY, tenant(of_tenant or number), key(number)))
        assert found is not None
        return found

    async def change(self, which: int, *, of_tenant: int | None = None, **changes: Any) -> Watch:  # noqa: ANN401 - of a verdict
        found = await self.watch(which, of_tenant=of_tenant)
        return await self.store.commit_decision(found, decision(found, **changes), now=at(1))

    async def suspect(
        self, *numbers: int, of_tenant: int | None = None, held: bool = False, minutes: float = 1
    ) -> None:
        first = Suspicion(Reason.ACCESS_DENIED, "refused", at(minutes), held_since=at(minutes) if held else None)
        for number in numbers:
            await self.change(number, of_tenant=of_tenant, suspicion=first, number=1)

    async def consult(self, terms: BrakeTerms = TERMS, *, minutes: float = 2) -> Ruling:
        return (await self.store.consult_brake(terms, now=at(minutes))).ruling

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [(row.type, row.data) for row in await self.stage.history() if row.stream == "service"]

    async def is_engaged(self) -> bool:
        return (await self.store.brake_report(limit=0)).brake.engagement is not None


@pytest.fixture
def fleet(stage: Stage) -> Fleet:
    return Fleet(stage)


async def test_below_the_threshold_a_denial_counts_and_nothing_is_written(fleet: Fleet) -> None:
    await fleet.join(1, 20)
    await fleet.suspect(1, 2, 3)
    before = await fleet.stage.contents()
    consulted = await fleet.store.consult_brake(TERMS, now=at(2))
    assert (consulted.ruling, consulted.engaged_now) == (Ruling.APPLY, False)
    assert await fleet.stage.contents() == before


async def test_from_the_threshold_on_it_engages_once_and_tells_so(fleet: Fleet) -> None:
    await fleet.join(1, 20)
    await fleet.suspect(1, 2, 3, 4)
    consulted = await fleet.store.consult_brake(TERMS, now=at(2))
    assert (consulted.ruling, consulted.engaged_now) == (Ruling.HOLD, True)
    again = await fleet.store.consult_brake(TERMS, now=at(3))
    assert (again.ruling, again.engaged_now, again.brake) == (Ruling.HOLD, False, consulted.brake)
    ((type_, data),) = await fleet.told()
    assert type_ == EventType.SERVICE_BRAKE_ENGAGED
    assert data == {
        "engagedBy": "tally",
        "since": "2026-03-01T12:02:00.123Z",
        "mode": "hold",
        "holdUntil": "2026-03-01T13:02:00.123Z",
        "message": "",
        "counted": "tenants",
        "among": "all",
        "identity": None,
        "customers": 20,
        "suspected": 4,
        "reasons": "AccessDenied",
    }
    assert (await fleet.store.brake_report(limit=0)).brake == consulted.brake


async def test_what_does_not_count_is_left_out(fleet: Fleet) -> None:
    """Denied already, another kind of denial, a customer who is gone: neither suspected nor one of so many."""
    await fleet.join(1, 21)
    await fleet.suspect(1, 2, 3)
    await fleet.change(4, suspicion=Suspicion(Reason.KEY_DISABLED, "disabled", at(1)), number=1)
    await fleet.change(5, **denial(), suspicion=Suspicion(Reason.ACCESS_DENIED, "refused", at(1)))
    await fleet.suspect(6)
    await fleet.store.delete_account(account_id(6), now=at(1))
    assert await fleet.consult() is Ruling.APPLY
    for number in range(7, 12):
        await fleet.change(number, **denial(Reason.KEY_DISABLED))
    assert await fleet.consult() is Ruling.HOLD
    ((_, data),) = await fleet.told()
    assert (data["suspected"], data["customers"]) == (3, 14)


async def test_with_few_tenants_vaults_count_but_not_those_of_one_alone(fleet: Fleet) -> None:
    await fleet.join(1, 10, of_tenant=1)
    await fleet.join(11, 12)
    await fleet.suspect(*range(1, 11), of_tenant=1)
    assert await fleet.consult() is Ruling.APPLY
    await fleet.suspect(11)
    assert await fleet.consult() is Ruling.HOLD
    ((_, data),) = await fleet.told()
    assert (data["counted"], data["suspected"], data["customers"]) == ("vaults", 11, 12)


async def test_too_few_others_looked_at_is_too_early(fleet: Fleet) -> None:
    await fleet.join(1, 30)
    await fleet.suspect(1, 2, 3)
    few = replace(TERMS, sample=Sample(at(0.5), frozenset()))
    before = await fleet.stage.contents()
    assert await fleet.consult(few) is Ruling.WAIT
    assert await fleet.stage.contents() == before


async def test_observing_engages_and_lets_denials_count(fleet: Fleet) -> None:
    await fleet.join(1, 10)
    await fleet.suspect(1, 2, 3)
    observing = replace(TERMS, mode=BrakeMode.OBSERVE)
    assert await fleet.consult(observing) is Ruling.APPLY
    assert await fleet.is_engaged()


async def test_a_denial_that_was_judged_before_the_brake_changed_is_refused(fleet: Fleet) -> None:
    await fleet.join(1, 10)
    await fleet.suspect(1, 2)
    judged = await fleet.store.consult_brake(TERMS, now=at(2))
    await fleet.suspect(3)
    assert await fleet.consult() is Ruling.HOLD
    on = await fleet.watch(1)
    before = await fleet.stage.contents()
    for wrong in (judged.brake.revision, judged.brake.revision + 2):
        with pytest.raises(StaleError):
            await fleet.store.commit_decision(on, _denied(on), now=at(3), brake_revision=wrong)
    assert await fleet.stage.contents() == before
    right = judged.brake.revision + 1
    assert await fleet.store.commit_decision(on, _denied(on), now=at(3), brake_revision=right)


def _denied(on: Watch) -> Decision:
    return decision(on, **denial(), suspicion=None)


async def engaged(fleet: Fleet, *, held: int, of: int = 10) -> None:
    await fleet.join(1, of)
    await fleet.suspect(*range(1, held + 1), held=True)
    assert await fleet.consult() is Ruling.HOLD


async def test_it_is_not_released_while_anything_is_held_however_late(fleet: Fleet) -> None:
    await engaged(fleet, held=3)
    for number in (1, 2):
        await fleet.change(number, **usability(), suspicion=None)
    kept = await fleet.store.release_proved_brake(TERMS, now=at(1_000_000))
    assert kept.engagement is not None
    await fleet.change(3, **usability(), suspicion=None)
    gone = await fleet.store.release_proved_brake(TERMS, now=at(9))
    assert (gone.engagement, gone.revision) == (None, kept.revision + 1)
    _, (type_, data) = await fleet.told()
    assert (type_, data) == (
        EventType.SERVICE_BRAKE_RELEASED,
        {"cause": "proof", "held": 0, "since": "2026-03-01T12:02:00.123Z"},
    )
    assert await fleet.store.release_proved_brake(TERMS, now=at(10)) == gone
    assert len(await fleet.told()) == 2


async def test_what_was_applied_while_it_was_engaged_is_no_proof_until_it_is_usable(fleet: Fleet) -> None:
    await engaged(fleet, held=3)
    for number in (1, 2, 3):
        await fleet.change(number, **denial(when=at(62)), suspicion=None)
    assert (await fleet.store.release_proved_brake(TERMS, now=at(99))).engagement is not None
    for number in (1, 2):
        await fleet.change(number, **usability(when=at(100)))
    assert (await fleet.store.release_proved_brake(TERMS, now=at(100))).engagement is not None
    await fleet.store.delete_account(account_id(3), now=at(101))
    assert (await fleet.store.release_proved_brake(TERMS, now=at(101))).engagement is None


async def test_held_denials_that_end_otherwise_hold_it_no_longer(fleet: Fleet) -> None:
    await engaged(fleet, held=3)
    await fleet.change(1, **denial(Reason.KEY_DISABLED, when=at(5)), suspicion=None)
    await fleet.store.delete_account(account_id(2), now=at(5))
    await fleet.change(3, **usability(), suspicion=None)
    assert (await fleet.store.release_proved_brake(TERMS, now=at(6))).engagement is None


async def test_it_is_not_released_while_the_tally_finds_our_fault(fleet: Fleet) -> None:
    await fleet.join(1, 10)
    await fleet.suspect(1, 2, 3)
    assert await fleet.consult() is Ruling.HOLD
    assert (await fleet.store.release_proved_brake(TERMS, now=at(3))).engagement is not None


async def test_an_operators_brake_goes_only_by_order(fleet: Fleet) -> None:
    await fleet.join(1, 10)
    brake = await fleet.store.engage_brake("a new credential", TERMS, now=at(2))
    assert brake.engagement is not None
    assert (brake.engagement.by, brake.engagement.message) == (EngagedBy.OPERATOR, "a new credential")
    assert await fleet.store.release_proved_brake(TERMS, now=at(99)) == brake
    assert await fleet.consult() is Ruling.HOLD
    done = await fleet.store.settle_held(ReleaseCause.DISCARDED, limit=500, now=at(100))
    assert (done.settled, done.brake.engagement) == (0, None)


async def test_an_operator_takes_over_what_the_tally_engaged(fleet: Fleet) -> None:
    await engaged(fleet, held=3)
    brake = await fleet.store.engage_brake("looking into it", TERMS, now=at(5))
    assert brake.engagement is not None
    assert (brake.engagement.by, brake.engagement.since) == (EngagedBy.OPERATOR, at(2))
    assert [data["engagedBy"] for _, data in await fleet.told()] == ["tally", "operator"]
    assert (await fleet.store.brake_report(limit=0)).brake == brake


async def test_confirming_applies_in_batches_that_can_be_broken_off_and_accounts_follow(fleet: Fleet) -> None:
    await engaged(fleet, held=5)
    before = {number: await fleet.watch(number) for number in range(1, 7)}
    first = await fleet.store.settle_held(ReleaseCause.CONFIRMED, limit=2, now=at(7))
    assert (first.settled, first.brake.engagement is None) == (2, False)
    # Broken off here; ordered again it goes on.
    settled = []
    while await fleet.is_engaged():
        settled.append((await fleet.store.settle_held(ReleaseCause.CONFIRMED, limit=2, now=at(8))).settled)
    assert settled == [2, 1]
    for number in range(1, 6):
        after = await fleet.watch(number)
        verdict, old = after.current_version.verdict, before[number].current_version.verdict
        assert (verdict.outcome, verdict.reason, verdict.suspicion) == (Outcome.DENIED, Reason.ACCESS_DENIED, None)
        assert verdict.number == old.number + 1
        with pytest.raises(StaleError):
            await fleet.store.commit_decision(before[number], decision(before[number]), now=at(9))
    assert await fleet.watch(6) == before[6]
    assert await fleet.store.follow(limit=500, now=at(9)) == 5
    assert (await fleet.store.census()).accounts[State.INACCESSIBLE] == 5
    assert (await fleet.told())[-1][1] == {"cause": "confirmed", "held": 5, "since": "2026-03-01T12:02:00.123Z"}


async def test_what_is_discarded_is_a_first_denial_again_and_counts_until_a_look_ends_it(fleet: Fleet) -> None:
    await engaged(fleet, held=4)
    await fleet.suspect(5, minutes=3)
    done = await fleet.store.settle_held(ReleaseCause.DISCARDED, limit=500, now=at(7))
    assert (done.settled, done.brake.engagement, done.brake.counts_from) == (4, None, None)
    for number in range(1, 5):
        again = (await fleet.watch(number)).current_version.verdict.suspicion
        assert again == Suspicion(Reason.ACCESS_DENIED, "refused", at(7))
    assert await fleet.store.follow(limit=500, now=at(8)) == 0
    for number in (1, 2, 3):
        await fleet.change(number, **usability(when=at(8)), suspicion=None)
    assert await fleet.consult(minutes=9) is Ruling.APPLY, "two are left: the fourth and the fifth"
    await fleet.suspect(1, minutes=9)
    assert await fleet.consult(minutes=9) is Ruling.HOLD


async def test_once_an_operator_confirmed_only_later_denials_count(fleet: Fleet) -> None:
    await engaged(fleet, held=4)
    await fleet.suspect(5, minutes=3)
    done = await fleet.store.settle_held(ReleaseCause.CONFIRMED, limit=500, now=at(7))
    assert (done.settled, done.brake.engagement, done.brake.counts_from) == (4, None, at(7))
    await fleet.suspect(6, 7, minutes=8)
    assert await fleet.consult(minutes=9) is Ruling.APPLY, "the fifth began before"
    await fleet.suspect(8, minutes=8)
    assert await fleet.consult(minutes=9) is Ruling.HOLD


async def test_who_was_denied_a_moment_ago_counts_like_those_that_await_it(fleet: Fleet) -> None:
    """Of many whom a fault strikes the first are confirmed before the last are suspected."""
    await fleet.join(1, 15)
    await fleet.change(1, **denial(when=at(1)))
    await fleet.change(2, **denial(Reason.KEY_DISABLED, when=at(1)))
    await fleet.suspect(3)
    assert await fleet.consult() is Ruling.APPLY, "a key that its customer disabled is not our doing"
    await fleet.suspect(4)
    assert await fleet.consult(replace(TERMS, denied_since=at(1.5))) is Ruling.APPLY, "that was long ago"
    assert await fleet.consult() is Ruling.HOLD
    ((_, data),) = await fleet.told()
    assert (data["suspected"], data["customers"]) == (3, 14)


async def test_without_an_engaged_brake_an_order_does_nothing(fleet: Fleet) -> None:
    await fleet.join(1, 3)
    before = await fleet.stage.contents()
    assert (await fleet.store.settle_held(ReleaseCause.CONFIRMED, limit=9, now=at(7))).settled == 0
    assert await fleet.stage.contents() == before


async def test_the_report_names_what_is_held_the_oldest_first(fleet: Fleet) -> None:
    await fleet.join(1, 10)
    for number in (3, 1, 2):
        await fleet.suspect(number, held=True, minutes=4 - number)
    report = await fleet.store.brake_report(limit=2)
    assert (report.held, report.held_since) == (3, at(1))
    assert [(one.tenant, one.accounts, one.held_since) for one in report.denials] == [
        (tenant(3), 1, at(1)),
        (tenant(2), 1, at(2)),
    ]
    assert str(report.denials[0].key).startswith("https://customer3.vault.azure.net/keys/key/")
    assert (await fleet.store.census()).held_versions == 3


async def test_two_consultations_at_once_engage_it_once(fleet: Fleet) -> None:
    await fleet.join(1, 10)
    await fleet.suspect(1, 2, 3)
    both = await asyncio.gather(*(fleet.store.consult_brake(TERMS, now=at(2)) for _ in range(4)))
    assert sum(one.engaged_now for one in both) == 1
    assert len(await fleet.told()) == 1
