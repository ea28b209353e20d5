"""Sources of Event Grid that could never be heard are named before the start."""

from pathlib import Path

import pytest

from byokd.runtime.configuration import SettingsInvalidError, read_settings


def written(directory: Path, text: str) -> Path:
    path = directory / "byokd.toml"
    path.write_text(text)
    return path


def source(name: str, secret: Path, *, vaults: str = '"contoso.vault.azure.net"') -> str:
    return f'[event_grid.sources.{name}]\nsecret_file = "{secret}"\nvaults = [{vaults}]\n'


def test_sources_with_one_secret_are_refused_by_name(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("0123456789abcdef\n")
    other.write_text("0123456789abcdef")
    with pytest.raises(SettingsInvalidError, match="the sources first and second have the same secret"):
        read_settings(written(tmp_path, source("first", one) + source("second", other)), {})
    other.write_text("fedcba9876543210")
    assert len(read_settings(written(tmp_path, source("first", one) + source("second", other)), {}).event_grid.sources)


@pytest.mark.parametrize("vault", ["evil.example.com", "*.azure.net", "contoso.vault.azur.net"])
def test_a_vault_that_byokd_may_not_look_at_is_refused(tmp_path: Path, vault: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    with pytest.raises(SettingsInvalidError, match=r"sources\.contoso\.vaults: .* is no vault under"):
        read_settings(written(tmp_path, source("contoso", secret, vaults=f'"{vault}"')), {})


@pytest.mark.parametrize(
    "header", ["content-length", "host", "aeg-event-type", "webhook-request-origin", "X-Secret", ""]
)
def test_a_header_that_something_else_uses_carries_no_secret(tmp_path: Path, header: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    text = source("contoso", secret) + f'secret_header = "{header}"\n'
    with pytest.raises(SettingsInvalidError, match=r"contoso\] secret_header: not a header for a secret"):
        read_settings(written(tmp_path, text), {})


def test_a_secret_in_the_query_needs_one(tmp_path: Path) -> None:
    guid = "3f0c2f8e-0000-4000-8000-000000000001"
    text = (
        '[event_grid.sources.contoso]\nvaults = ["contoso.vault.azure.net"]\nsecret_in_query = true\n'
        f'tenant = "{guid}"\naudience = "api://byokd"\napplication = "{guid}"\n'
    )
    with pytest.raises(SettingsInvalidError, match="secret_in_query has no secret to look for"):
        read_settings(written(tmp_path, text), {})


def test_deliveries_do_not_come_where_health_is_asked_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    both = '[http]\nlisten = "127.0.0.1:9470"\n[event_grid]\nlisten = "127.0.0.1:9470"\n'
    with pytest.raises(SettingsInvalidError, match=r"event_grid\.listen is http\.listen"):
        read_settings(written(tmp_path, both + source("contoso", secret)), {})
    assert read_settings(written(tmp_path, both), {}).http.listen == "127.0.0.1:9470"
    free = both.replace("9470", "0")
    assert read_settings(written(tmp_path, free + source("contoso", secret)), {}).event_grid.webhooks
