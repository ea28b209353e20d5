"""What operators build upon is on their page: every log line's name and every metric."""

import re
from pathlib import Path

from byokd.domain.brake import FEW_TENANTS
from byokd.runtime.metrics import Metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
LOGGED = re.compile(r'(?:_log|get_logger\(\))\.(?:debug|info|warning|error|exception)\(\s*"([^"]+)"|level\("([^"]+)"')


def test_every_log_line_has_its_name_on_the_page() -> None:
    names = {
        found[1] or found[2]
        for path in (ROOT / "daemon/byokd").rglob("*.py")
        for found in LOGGED.finditer(path.read_text())
    }
    assert len(names) > 20
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_every_metric_is_on_the_page() -> None:
    names = {family.name for family in Metrics().registry.collect()}
    assert len(names) > 8
    assert {name for name in names if f"`{name}" not in PAGE} == set()


def test_it_is_said_who_counts_as_a_customer_where_tenants_are_few() -> None:
    assert FEW_TENANTS == 10
    assert "with fewer than ten tenants it is a vault" in PAGE
