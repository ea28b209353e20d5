"""docs/operations.md names every defect, and no other."""

import re
from pathlib import Path

import byokd
from byokd.domain.chain import Flaw

PAGE = (Path(byokd.__file__).parents[2] / "docs/operations.md").read_text()


def test_every_flaw_has_a_row_and_every_row_is_a_flaw() -> None:
    table = PAGE.partition("| defect | what it says |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [str(flaw) for flaw in Flaw]
