"""What the command line loads and says, without a daemon."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from byokd.adapters.sql import upgrade_database
from byokd.cli import accounts
from byokd.cli.main import main
from byokd.settings import StoreSettings

BASE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Media/mediaservices"
LOADED = """
import json, sys
from byokd.cli.main import main
try:
    main({words!r}, standalone_mode=False)
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {"fastapi", "uvicorn", "sqlalchemy", "azure", "aiomqtt", "byokd.runtime.wiring"}


def loaded(*words: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", LOADED.format(words=list(words))], capture_output=True, check=True, text=True
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "words", [("--help",), ("accounts", "list", "--socket", "/nowhere"), ("check-config", "--settings", "/nowhere")]
)
def test_only_the_daemon_loads_the_daemon(words: tuple[str, ...]) -> None:
    assert not loaded(*words) & HEAVY


def test_a_verb_does_not_load_what_tells_the_version() -> None:
    assert "importlib.metadata" not in loaded("accounts", "list", "--socket", "/nowhere")


@pytest.mark.parametrize("words", [("audit", "verify"), ("db", "status")])
def test_who_works_on_the_database_alone_does_not_load_the_daemon_either(
    words: tuple[str, str], tmp_path: Path
) -> None:
    settings = tmp_path / "byokd.toml"
    settings.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/none.db"\n')
    assert loaded(*words, "--settings", str(settings)) & HEAVY == {"sqlalchemy"}


def test_who_finds_the_schema_current_does_not_load_what_migrates(tmp_path: Path) -> None:
    settings = tmp_path / "byokd.toml"
    settings.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/byokd.db"\n')
    upgrade_database(StoreSettings(url=f"sqlite:///{tmp_path}/byokd.db"))
    assert not loaded("db", "upgrade", "--settings", str(settings)) & {"alembic", "mako"}


def test_the_version_loads_no_other_command() -> None:
    assert not {module for module in loaded("version") if module.startswith(("byokd.cli.", "aiohttp", "pydantic"))} - {
        "byokd.cli.main"
    }


def test_help_lists_every_command_with_its_help() -> None:
    commands = main.list_commands(click.Context(main))
    names = "accounts audit brake check check-config db demo doctor emulator explain keys reload republish run"
    assert commands == [*names.split(), "version", "watch"]
    shown = CliRunner().invoke(main, ["--help"]).output
    for name in commands:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.name == name
        assert f"  {name} " in shown
        assert command.get_short_help_str(30).removesuffix("...") in shown


def test_an_unknown_command_is_a_usage_error() -> None:
    refused = CliRunner().invoke(main, ["acounts"])
    assert refused.exit_code == 2
    assert "No such command 'acounts'" in refused.output


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `accounts apply` on a daemon that answers as told."""
    path = tmp_path / "accounts.yaml"
    path.write_text("accounts: []\n")

    def apply(answer: dict[str, Any], *options: str, before: Sequence[dict[str, Any]] = ()) -> Result:
        results = answer.get("results")
        last = [answer] if results is None else [*({"result": one} for one in results), {"applied": len(results)}]
        monkeypatch.setattr(accounts, "lines_of", lambda *_, **__: iter([*before, *last]))
        return CliRunner().invoke(main, ["accounts", "apply", "-f", str(path), *options])

    return apply


def result(name: str, action: str) -> dict[str, Any]:
    said = {"message": "not fit", "hint": "mend it"} if action == "refused" else {"message": "", "hint": ""}
    return {"account": f"{BASE}/{name}", "action": action, **said, "warnings": [], "commands": []}


def test_an_apply_of_several_accounts_ends_with_a_summary(applied: Callable[..., Result]) -> None:
    answer = {"results": [result("one", "refused"), result("two", "created"), result("three", "created")]}
    ran = applied(answer)
    assert ran.exit_code == 1
    assert ran.stdout == "refused    one\ncreated    two\ncreated    three\n"
    assert ran.stderr == "error: one: not fit\nhint: mend it\napplied 3 accounts: 2 created, 1 refused\n"
    as_json = applied(answer, "--json")
    assert json.loads(as_json.stdout) == answer
    assert as_json.stderr == ""


def test_an_apply_of_one_account_needs_no_summary(applied: Callable[..., Result]) -> None:
    ran = applied({"results": [result("one", "created")]})
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "created    one\n", "")


def test_what_an_apply_waits_for_is_told_and_what_mends_it_is_ready_to_be_pasted(
    applied: Callable[..., Result],
) -> None:
    refused = {**result("one", "refused"), "commands": ["az first", "az second"]}
    ran = applied({"results": [refused]}, before=[{"waiting": 1}])
    first, *rest = ran.stderr.splitlines()
    assert first.startswith("waiting: a vault refuses 1 account yet")
    assert rest == ["error: one: not fit", "hint: mend it", "  az first", "  az second"]
    as_json = applied({"results": [refused]}, "--json", before=[{"waiting": 1}])
    assert (json.loads(as_json.stdout), as_json.stderr) == ({"results": [refused]}, "")


def test_an_apply_that_is_broken_off_is_not_taken_for_one_that_ended(
    applied: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    applied({"results": []})
    monkeypatch.setattr(accounts, "lines_of", lambda *_, **__: iter([{"waiting": 1}]))
    with TemporaryDirectory() as name:
        path = Path(name) / "accounts.yaml"
        path.write_text("accounts: []")
        ran = CliRunner().invoke(main, ["accounts", "apply", "-f", str(path)])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "the daemon stopped before all was applied" in ran.stderr


@pytest.mark.parametrize(("number", "said"), [(1, "1 mistake in"), (2, "2 mistakes in")])
def test_mistakes_are_counted_in_good_english(applied: Callable[..., Result], number: int, said: str) -> None:
    mistake = {"line": 1, "place": "accounts", "message": "missing"}
    ran = applied({"mistakes": [mistake] * number})
    assert ran.exit_code == 1
    assert f"nothing was applied: {said}" in ran.stderr


def test_what_is_no_number_is_no_time_to_wait_for() -> None:
    result = CliRunner().invoke(main, ["republish", "--wait", "nan"])
    assert result.exit_code == 2
    assert "nan is no number of seconds" in result.output
