"""When many denials look like our own fault, and when they are the customers' doing."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.brake import (
    FEW_TENANTS,
    OUR_FAULT_CAN_CAUSE,
    Among,
    Brake,
    BrakeMode,
    Counted,
    Crowd,
    Customer,
    EngagedBy,
    Engagement,
    Finding,
    Sample,
    Suspect,
    Threshold,
    is_too_early,
    tally,
)
from byokd.domain.decide import decide
from byokd.domain.holding import held_now, postponed
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.domain.verdict import Suspicion
from byokd.domain.vocabulary import DetectedBy, Outcome, Reason, RefusalKind
from byokd.domain.weigh import weigh
from domain import scenes
from domain.scenes import FRESH, NOW, POLICY, SECOND, denied, look, refused, watch

THRESHOLD = Threshold(3, 0.2)
SINCE = NOW - 10 * SECOND
NOBODY = Sample(SINCE, frozenset())
reasons = st.sampled_from(sorted(OUR_FAULT_CAN_CAUSE))
BOTH = (IdentityName("platform"), IdentityName("other"))


def customer(tenant: int, vault: int = 0, identity: int = 0) -> Customer:
    return Customer(BOTH[identity], TenantId(f"tenant{tenant}"), VaultHost(f"v{tenant}-{vault}.vault.azure.net"))


def suspect(tenant: int, vault: int = 0, *, identity: int = 0, seconds: int = 3600) -> Suspect:
    return Suspect(customer(tenant, vault, identity), Reason.ACCESS_DENIED, NOW - seconds * SECOND)


customers = st.builds(customer, st.integers(1, 40), st.integers(0, 3), st.integers(0, 1))
suspected = st.lists(
    st.builds(Suspect, customers, reasons, st.integers(0, 60).map(lambda ago: NOW - ago * SECOND)), max_size=40
)
samples = st.builds(Sample, st.integers(1, 30).map(lambda ago: NOW - ago * SECOND), st.frozensets(customers))
thresholds = st.builds(Threshold, st.integers(2, 6), st.sampled_from((0.1, 0.2, 0.5, 1.0)))


@st.composite
def fleets(draw: st.DrawFn, *, least_tenants: int = 0) -> tuple[list[Suspect], Mapping[IdentityName | None, Crowd]]:
    """Suspects, and how many customers there are: at least those."""
    suspects = draw(suspected)
    crowds: dict[IdentityName | None, Crowd] = {}
    for identity in (*BOTH, None):
        group = [one.customer for one in suspects if identity in {None, one.customer.identity}]
        tenants = len({one.tenant for one in group}) + draw(st.integers(0, 60))
        vaults = len({one.host for one in group}) + draw(st.integers(0, 60))
        crowds[identity] = Crowd(max(tenants, least_tenants), max(vaults, tenants, least_tenants))
    return suspects, crowds


@given(fleets(least_tenants=2), samples, thresholds)
def test_one_tenant_alone_never_engages_it_when_there_are_others(
    fleet: tuple[list[Suspect], Mapping[IdentityName | None, Crowd]], sample: Sample, threshold: Threshold
) -> None:
    suspects, crowds = fleet
    alone = [replace(one, customer=replace(one.customer, tenant=TenantId("one"))) for one in suspects]
    assert tally(alone, crowds, sample, threshold) is None
    assert not is_too_early(alone, crowds, sample, threshold)


@given(fleets(), samples, thresholds)
def test_fewer_than_the_least_number_of_customers_never_do(
    fleet: tuple[list[Suspect], Mapping[IdentityName | None, Crowd]], sample: Sample, threshold: Threshold
) -> None:
    suspects, crowds = fleet
    hosts = sorted({one.customer.host for one in suspects})[: threshold.customers - 1]
    few = [one for one in suspects if one.customer.host in hosts]
    assert tally(few, crowds, sample, threshold) is None
    assert not is_too_early(few, crowds, sample, threshold)


@given(fleets(), samples, thresholds)
def test_what_is_found_is_at_least_the_threshold_and_what_is_not_is_below_it(
    fleet: tuple[list[Suspect], Mapping[IdentityName | None, Crowd]], sample: Sample, threshold: Threshold
) -> None:
    suspects, crowds = fleet
    found = tally(suspects, crowds, sample, threshold)
    if found is not None:
        assert found.suspected >= threshold.customers
        assert found.suspected / found.customers >= threshold.share
        assert set(found.reasons) <= {one.reason for one in suspects}
        assert found.among is Among.ALL or found.customers >= threshold.least
        return
    tenants = {one.customer.tenant for one in suspects}
    if crowds[None].tenants >= FEW_TENANTS and len(tenants) >= threshold.customers:
        assert len(tenants) / crowds[None].tenants < threshold.share


@given(fleets(), samples, thresholds, st.data())
def test_a_further_suspect_never_unmakes_a_finding_among_all(
    fleet: tuple[list[Suspect], Mapping[IdentityName | None, Crowd]],
    sample: Sample,
    threshold: Threshold,
    data: st.DataObject,
) -> None:
    suspects, crowds = fleet
    fewer = data.draw(st.lists(st.sampled_from(suspects))) if suspects else []
    found = tally(fewer, crowds, sample, threshold)
    if found is not None and found.among is Among.ALL:
        assert tally(suspects, crowds, sample, threshold) is not None


@pytest.mark.parametrize(
    ("suspects", "crowd", "expected"),
    [
        ([suspect(n) for n in (1, 2, 3)], Crowd(15, 15), (Counted.TENANTS, 15, 3)),
        ([suspect(n) for n in (1, 2, 3)], Crowd(16, 16), None),
        ([suspect(n) for n in (1, 2)], Crowd(10, 10), None),
        ([suspect(1, n) for n in range(50)], Crowd(12, 61), None),
        ([suspect(1, n) for n in range(50)], Crowd(2, 51), None),
        ([suspect(1, n) for n in range(50)], Crowd(1, 51), (Counted.VAULTS, 51, 50)),
        ([suspect(1), suspect(1, 1), suspect(2)], Crowd(2, 10), (Counted.VAULTS, 10, 3)),
        ([suspect(1), suspect(1, 1), suspect(2)], Crowd(10, 10), None),
    ],
)
def test_three_and_a_fifth_of_tenants_or_vaults(
    suspects: list[Suspect], crowd: Crowd, expected: tuple[Counted, int, int] | None
) -> None:
    found = tally(suspects, {None: crowd, BOTH[0]: crowd}, NOBODY, THRESHOLD)
    assert (None if found is None else (found.counted, found.customers, found.suspected)) == expected


def test_a_fault_of_one_identity_is_seen_among_its_own_customers() -> None:
    suspects = [suspect(n) for n in range(25)]
    crowds = {None: Crowd(1000, 1000), BOTH[0]: Crowd(100, 100), BOTH[1]: Crowd(900, 900)}
    found = tally(suspects, crowds, NOBODY, THRESHOLD)
    assert found == Finding(Counted.TENANTS, Among.ALL, BOTH[0], 100, 25, (Reason.ACCESS_DENIED,))


def sampled(healthy: int) -> Sample:
    return Sample(SINCE, frozenset(customer(1000 + n) for n in range(healthy)))


def test_a_fault_of_a_moment_ago_is_seen_among_those_that_were_asked_since() -> None:
    crowds = {None: Crowd(1000, 1000), BOTH[0]: Crowd(1000, 1000)}
    fresh = [suspect(n, seconds=5) for n in range(93)]
    found = tally(fresh, crowds, sampled(83), THRESHOLD)
    assert found == Finding(Counted.TENANTS, Among.LATELY_LOOKED_AT, None, 176, 93, (Reason.ACCESS_DENIED,))
    assert tally(fresh, crowds, NOBODY, THRESHOLD) is not None
    assert tally(fresh[:3], crowds, sampled(177), THRESHOLD) is None
    old = [suspect(n) for n in range(93)]
    assert tally(old, crowds, sampled(83), THRESHOLD) is None, "they are asked more often than others"


def test_a_small_sample_says_nothing_yet_and_a_small_fleet_is_judged_whole() -> None:
    crowds = {None: Crowd(1000, 1000)}
    fresh = [suspect(n, seconds=5) for n in range(3)]
    assert tally(fresh, crowds, sampled(11), THRESHOLD) is None
    assert is_too_early(fresh, crowds, sampled(11), THRESHOLD)
    assert not is_too_early(fresh, crowds, sampled(12), THRESHOLD)
    old = [suspect(n) for n in range(3)]
    assert is_too_early(old, crowds, sampled(14), THRESHOLD)
    assert not is_too_early(old, {None: Crowd(16, 16)}, sampled(13), THRESHOLD)


def sampled_twice(healthy: int, *, identity: int = 0) -> Sample:
    """Customers with two vaults each."""
    return Sample(SINCE, frozenset(customer(1000 + n, vault, identity) for n in range(healthy) for vault in (0, 1)))


def test_those_asked_lately_are_counted_as_customers_and_not_as_vaults() -> None:
    crowds = {None: Crowd(1000, 2000), BOTH[0]: Crowd(1000, 2000)}
    fresh = [suspect(n, vault, seconds=5) for n in range(93) for vault in (0, 1)]
    found = tally(fresh, crowds, sampled_twice(83), THRESHOLD)
    assert found == Finding(Counted.TENANTS, Among.LATELY_LOOKED_AT, None, 176, 93, (Reason.ACCESS_DENIED,))


def test_a_fault_of_one_identity_is_seen_among_its_customers_that_were_asked_lately() -> None:
    crowds = {None: Crowd(2000, 2000), BOTH[0]: Crowd(1000, 1000), BOTH[1]: Crowd(1000, 1000)}
    sample = Sample(SINCE, sampled_twice(500, identity=1).customers | {customer(2000 + n) for n in range(10)})
    found = tally([suspect(n, seconds=5) for n in range(20)], crowds, sample, THRESHOLD)
    assert found == Finding(Counted.TENANTS, Among.LATELY_LOOKED_AT, BOTH[0], 30, 20, (Reason.ACCESS_DENIED,))


def test_an_identity_of_few_tenants_is_judged_by_vaults_where_all_are_judged_by_tenants() -> None:
    crowds = {None: Crowd(10, 40), BOTH[0]: Crowd(2, 10)}
    found = tally([suspect(1), suspect(1, 1), suspect(2)], crowds, NOBODY, THRESHOLD)
    assert found == Finding(Counted.VAULTS, Among.ALL, BOTH[0], 10, 3, (Reason.ACCESS_DENIED,))


def test_whether_it_is_too_early_is_a_matter_of_customers_and_not_of_vaults() -> None:
    fresh = [suspect(n, vault, seconds=5) for n in range(3) for vault in (0, 1)]
    assert is_too_early(fresh, {None: Crowd(1000, 2000)}, sampled_twice(11), THRESHOLD)
    old = [suspect(n, vault) for n in range(3) for vault in (0, 1)]
    assert is_too_early(old, {None: Crowd(16, 40)}, sampled_twice(12), THRESHOLD)
    assert not is_too_early(old, {None: Crowd(16, 40)}, sampled_twice(13), THRESHOLD)


def test_who_engaged_it_and_the_mode_say_whether_it_holds() -> None:
    def held(mode: BrakeMode) -> list[EngagedBy | None]:
        engagements = [None, *(Engagement(by, NOW, mode, None, "") for by in EngagedBy)]
        return [one and one.by for one in engagements if Brake(1, one, None).holds(mode)]

    assert held(BrakeMode.HOLD) == [EngagedBy.TALLY, EngagedBy.OPERATOR]
    assert held(BrakeMode.OBSERVE) == [EngagedBy.OPERATOR]


keys_own = st.sampled_from(sorted(set(scenes.DENIALS) - OUR_FAULT_CAN_CAUSE))


@given(scenes.verdicts, keys_own, scenes.gaps, scenes.ways)
def test_what_the_vault_says_of_its_key_is_never_held(played, reason: Reason, gap: timedelta, by: DetectedBy) -> None:  # noqa: ANN001 - a verdict and its time
    verdict, now = played
    braked, free = (
        weigh(verdict, denied(reason), now=now + gap, policy=POLICY, detected_by=by, braked=braked)
        for braked in (True, False)
    )
    assert braked == free
    assert braked.suspicion is None or braked.suspicion.held_since is None


SUSPECTED = replace(FRESH, suspicion=Suspicion(Reason.ACCESS_DENIED, "refused", NOW - POLICY.confirm_after))


def test_what_would_be_held_is_postponed_as_it_was() -> None:
    on = watch(SUSPECTED, FRESH)
    sight = look(on, refused(RefusalKind.ACCESS_DENIED), refused(RefusalKind.ACCESS_DENIED))
    held = decide(on, sight, now=NOW, policy=POLICY, jitter=0, braked=True)
    assert held_now(on, held) == {on.versions[0].id}
    later = postponed(on, held, now=NOW, wait=POLICY.confirm_after)
    assert later.verdicts.keys() == {on.versions[1].id}, "a first denial of another version is stored"
    assert (later.changes, later.next_due) == (True, NOW + POLICY.confirm_after)
    only = postponed(alone := watch(SUSPECTED), _held(alone), now=NOW, wait=POLICY.confirm_after)
    assert (only.verdicts, only.changes) == ({}, False)


def test_what_was_held_is_written_when_it_is_postponed_because_it_may_have_been_settled() -> None:
    before = Suspicion(Reason.ACCESS_DENIED, "refused", NOW - POLICY.confirm_after, held_since=NOW)
    on = watch(replace(FRESH, suspicion=before))
    later = postponed(on, _held(on), now=NOW, wait=POLICY.confirm_after)
    assert (later.verdicts, later.changes) == ({}, True)


def _held(on):  # noqa: ANN001, ANN202 - a watch, and the decision
    return decide(on, look(on, refused(RefusalKind.ACCESS_DENIED)), now=NOW, policy=POLICY, jitter=0, braked=True)


def test_silence_of_what_is_held_asks_for_no_judgement() -> None:
    held = replace(SUSPECTED, suspicion=Suspicion(Reason.ACCESS_DENIED, "refused", NOW, held_since=NOW))
    on = watch(held)
    decision = decide(on, look(on, scenes.silent()), now=NOW, policy=POLICY, jitter=0, braked=True)
    assert decision.observations[on.current].outcome is Outcome.UNVERIFIED
    assert held_now(on, decision) == frozenset()
