"""What `byokd watch` prints of an event: enough to know of what it is, and to ask for it again."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from byokd.cli.watch import _line, watch

KEY = {"number": 7, "time": "2026-03-01T12:00:00Z", "data": {}}


def test_a_key_is_told_by_its_vault_and_an_account_by_its_name() -> None:
    key = _line({**KEY, "type": "byokd.key.expired", "subject": "keys/contoso.vault.azure.net/media"})
    assert key == "2026-03-01T12:00:00Z  #7  contoso.vault.azure.net/media  key.expired"
    account = _line({**KEY, "type": "byokd.account.created", "subject": "accounts/s/g/media"})
    assert account == "2026-03-01T12:00:00Z  #7  media  account.created"
    service = _line({**KEY, "type": "byokd.service.brake-engaged", "subject": "service"})
    assert service == "2026-03-01T12:00:00Z  #7  service  service.brake-engaged"


@pytest.mark.parametrize("since", ["soon", "2026-03-01T12:00:00", ""])
def test_a_since_that_nobody_can_read_is_a_wrong_use_also_without_a_daemon(since: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(watch, ["--since", since, "--socket", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "hint: write a number of an event, a time such as" in result.output


def test_a_since_that_is_right_goes_to_the_daemon(tmp_path: Path) -> None:
    for since in ("0", "10 min", "2026-03-01T12:00:00Z"):
        result = CliRunner().invoke(watch, ["--since", since, "--socket", str(tmp_path / "none")])
        assert (result.exit_code, "write a number" in result.output) == (1, False)
