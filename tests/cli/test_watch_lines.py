"""What `byokd watch` prints of an event: enough to know of what it is, and to ask for it again."""

from byokd.cli.watch import _line

KEY = {"number": 7, "time": "2026-03-01T12:00:00Z", "data": {}}


def test_a_key_is_told_by_its_vault_and_an_account_by_its_name() -> None:
    key = _line({**KEY, "type": "byokd.key.expired", "subject": "keys/contoso.vault.azure.net/media"})
    assert key == "2026-03-01T12:00:00Z  #7  contoso.vault.azure.net/media  key.expired"
    account = _line({**KEY, "type": "byokd.account.created", "subject": "accounts/s/g/media"})
    assert account == "2026-03-01T12:00:00Z  #7  media  account.created"
    service = _line({**KEY, "type": "byokd.service.brake-engaged", "subject": "service"})
    assert service == "2026-03-01T12:00:00Z  #7  service  service.brake-engaged"
