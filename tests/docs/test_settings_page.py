import re
from pathlib import Path

import pytest

from byokd.runtime.configuration import read_settings
from byokd.runtime.settings_page import entries, file, page
from byokd.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_generated_pages_are_up_to_date() -> None:
    assert (ROOT / "docs/settings.md").read_text() == page(), "run `make docs`"
    assert (ROOT / "config/byokd.toml").read_text() == file(), "run `make docs`"


def test_every_setting_says_what_it_means() -> None:
    assert [entry.name for entry in entries() if len(entry.words) < 20] == []


def test_the_file_as_it_is_gives_the_defaults() -> None:
    settings = read_settings(ROOT / "config/byokd.toml", {})
    assert settings.model_copy(update={"identities": {}}) == Settings()


def test_every_default_of_the_file_is_accepted_when_its_comment_mark_is_taken_away(tmp_path: Path) -> None:
    text = re.sub(r"^# (?=[a-z_]+ = (?!\.\.\.))", "", file(), flags=re.MULTILINE)
    path = tmp_path / "byokd.toml"
    path.write_text(text)
    settings = read_settings(path, {})
    assert settings.model_copy(update={"identities": {}}) == Settings()


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))]
)
def test_links_between_the_pages_lead_somewhere(name: str) -> None:
    page_path = ROOT / name
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page_path.read_text())
    assert [link for link in links if not (page_path.parent / link).exists()] == []
