import re

from prometheus_client import generate_latest

from byokd.domain.vocabulary import Outcome, Reason, State, WarningKind
from byokd.records import Census
from byokd.runtime.metrics import Metrics

CENSUS = Census(
    accounts={State.ACCESSIBLE: 7, State.INACCESSIBLE: 2},
    watches=5,
    vaults=3,
    denied_versions=1,
    suspected_versions=4,
    unverified_versions=6,
    unpublished=8,
    oldest_unpublished=None,
    rewraps_waiting=9,
    damaged_accounts=10,
    warnings={WarningKind.NEAR_EXPIRY: 11},
)


def test_the_gauges_show_the_stores_numbers() -> None:
    metrics = Metrics()
    metrics.show(CENSUS)
    read = metrics.registry.get_sample_value
    assert {state: read("byokd_accounts", {"state": state}) for state in State} == {"Accessible": 7, "Inaccessible": 2}
    conditions = {
        name: read("byokd_wrapping_versions", {"condition": name}) for name in ("denied", "suspected", "unverified")
    }
    assert conditions == {"denied": 1, "suspected": 4, "unverified": 6}
    others = ("byokd_watches", "byokd_vaults", "byokd_events_unpublished", "byokd_rewraps_waiting")
    assert [read(name) for name in others] == [5, 3, 8, 9]
    assert read("byokd_accounts_damaged") == 10
    warnings = {kind: read("byokd_warnings", {"kind": kind}) for kind in WarningKind}
    assert warnings == dict.fromkeys(WarningKind, 0) | {WarningKind.NEAR_EXPIRY: 11}


def test_a_state_without_accounts_goes_back_to_nought() -> None:
    metrics = Metrics()
    metrics.show(CENSUS)
    metrics.show(Census({}, 0, 0, 0, 0, 0, 0, None, 0))
    assert metrics.registry.get_sample_value("byokd_accounts", {"state": "Inaccessible"}) == 0


def test_every_outcome_is_there_from_the_start_so_that_rates_are_right() -> None:
    read = Metrics().registry.get_sample_value
    assert [read("byokd_checks_total", {"outcome": outcome}) for outcome in Outcome] == [0, 0, 0]
    assert [read("byokd_rewraps_total", {"result": result}) for result in ("done", "failed")] == [0, 0]


def test_two_daemons_in_one_process_do_not_share_numbers() -> None:
    first, second = Metrics(), Metrics()
    first.published.inc()
    assert second.registry.get_sample_value("byokd_events_published_total") == 0


def test_names_have_the_prefix_and_base_units_and_labels_are_few() -> None:
    metrics = Metrics()
    metrics.show(CENSUS)
    for family in metrics.registry.collect():
        assert re.fullmatch(r"byokd_[a-z_]+", family.name)
        assert not re.search(r"_(ms|milliseconds|minutes|percent)$", family.name)
        assert family.type != "histogram" or family.name.endswith("_seconds")
        for sample in family.samples:
            assert sample.labels.keys() <= {"outcome", "state", "result", "condition", "cause", "kind", "le"}


def test_the_page_holds_no_reason_or_message() -> None:
    metrics = Metrics()
    metrics.show(CENSUS)
    page = generate_latest(metrics.registry).decode()
    assert not any(reason in page for reason in set(Reason) - {*WarningKind, *Outcome})
