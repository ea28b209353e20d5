"""docs/states.md says what the code does: every value has its row, and no row is of a value that is no more."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from byokd.domain import warn
from byokd.domain.brake import OUR_FAULT_CAN_CAUSE
from byokd.domain.vocabulary import SILENCES, EventType, Outcome, Reason, State, ValueKind, WarningKind
from byokd.settings import CheckSettings
from domain.scenes import DENIALS, TROUBLE

PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by the code in their first cell."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading + "\n")]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in cells}


@pytest.mark.parametrize(
    ("heading", "values"),
    [
        ("States of an account", set(State)),
        ("From what is seen to a verdict", set(Outcome)),
        ("Reasons of a denial", {*DENIALS, Reason.UNVERIFIED}),
        ("Reasons for being unverified", set(TROUBLE)),
        ("Warnings", set(WarningKind)),
        ("Kinds of protected values", set(ValueKind)),
    ],
)
def test_every_value_has_its_row_and_says_what_it_means_and_what_to_do(heading: str, values: set[str]) -> None:
    found = rows(heading)
    assert found.keys() == {str(value) for value in values}
    assert all(cell for cells in found.values() for cell in cells)


def test_every_reason_is_of_a_denial_or_of_trouble() -> None:
    assert {*DENIALS, *TROUBLE, Reason.UNVERIFIED} == set(Reason)
    assert not set(DENIALS) & set(TROUBLE)


def test_the_brake_holds_the_kinds_that_the_page_names() -> None:
    (named,) = re.findall(r"a kind that our own fault can cause \(([^)]*)\)", PAGE)
    assert set(re.findall(r"`(\w+)`", named)) == OUR_FAULT_CAN_CAUSE


def test_the_events_of_warnings_are_those_that_are_published() -> None:
    told = {WarningKind(kind): cells[-1].strip("`") for kind, cells in rows("Warnings").items()}
    assert told == {kind: str(warn.EVENTS.get(kind, "none")) for kind in WarningKind}


def test_the_events_that_the_page_names_exist() -> None:
    assert set(re.findall(r"`(byokd\.[a-z.-]+)`", PAGE)) <= {str(event) for event in EventType}


def test_the_times_are_the_defaults_of_the_settings() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    for name, (default, _) in rows("Times").items():
        number, unit = default.split()
        assert getattr(CheckSettings(), name) == timedelta(seconds=int(number) * units[unit])
    assert {"confirm_after", "confirm_network_after", "recheck_first", "recheck_most"} <= rows("Times").keys()


def test_what_says_nothing_of_a_key_is_known_as_such() -> None:
    assert set(TROUBLE) == SILENCES
