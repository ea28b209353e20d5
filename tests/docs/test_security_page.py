"""What the page on security rests on is there: its tests and its settings."""

import re
from pathlib import Path

from byokd.runtime.settings_page import entries

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(tests/[a-z_/]+\.py)`", PAGE))
    assert len(named) > 15
    texts = {path: (ROOT / path).read_text() for path in named}
    assert {path for path, text in texts.items() if not re.search(r"^(async )?def test_", text, re.MULTILINE)} == set()


def test_every_setting_that_is_named_is_there() -> None:
    known = {f"{entry.section}.{entry.name}" for entry in entries()}
    sections = {entry.section for entry in entries()}
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", PAGE) if name.partition(".")[0] in sections}
    assert len(named) > 8
    assert named <= known
