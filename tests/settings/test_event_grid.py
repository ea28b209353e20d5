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
