"""docs/events.md is true: it has every type and every data member, and names no others."""

import ast
import re
from pathlib import Path

import pytest

import byokd
from byokd.domain.accounts import AccountEvent
from byokd.domain.vocabulary import EventType
from byokd.runtime.envelope import TRIAL, DaemonStatus

SOURCE = Path(byokd.__file__).parent
PAGE = (SOURCE.parent.parent / "docs" / "events.md").read_text()
ROWS = {row[0]: row for line in PAGE.splitlines() if (row := re.findall(r"`([^`]+)`", line)) and line.startswith("| `")}


def data_members() -> list[str]:
    """The literal keys in `AccountEvent.data`."""
    tree = ast.parse((SOURCE / "domain" / "accounts.py").read_text())
    (method,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == AccountEvent.data.__name__
    )
    return [
        key.value
        for node in ast.walk(method)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]


@pytest.mark.parametrize("event_type", list(EventType))
def test_every_type_has_a_row(event_type: EventType) -> None:
    assert str(event_type) in ROWS


def test_every_type_on_the_page_exists() -> None:
    known = {str(one) for one in EventType} | {f"byokd.daemon.{one}" for one in DaemonStatus} | {TRIAL}
    assert set(re.findall(r"`(byokd\.[a-z]+\.[a-z-]+)`", PAGE)) == known


def test_every_data_member_of_accounts_has_a_row() -> None:
    members = data_members()
    assert len(members) > 10
    assert set(members) <= set(ROWS)


def test_the_example_has_the_members_in_their_order() -> None:
    example = PAGE.partition('"data": {')[2].partition("}}")[0]
    assert re.findall(r'"([A-Za-z]+)":', example) == data_members()
