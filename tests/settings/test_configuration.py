from datetime import timedelta
from pathlib import Path

import pytest

from byokd.runtime.configuration import SettingsInvalidError, read_settings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "byokd.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    settings = read_settings(None, {})
    assert settings.checks.interval == timedelta(seconds=60)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[checks]\ninterval = "30 s"\n[http]\nlisten = "127.0.0.1:1"\n')
    settings = read_settings(path, {"BYOKD_CHECKS__INTERVAL": "2 min", "BYOKD_OTHER": "ignored"})
    assert settings.checks.interval == timedelta(minutes=2)
    assert settings.http.listen == "127.0.0.1:1"


def test_lists_and_numbers_come_from_the_environment() -> None:
    environment = {"BYOKD_HTTP__ALLOWED_HOSTS": '["a", "b"]', "BYOKD_CHECKS__CONCURRENCY": "7"}
    settings = read_settings(None, environment)
    assert settings.http.allowed_hosts == ("a", "b")
    assert settings.checks.concurrency == 7


def test_every_mistake_is_named_at_once_with_its_place_and_the_right_form(tmp_path: Path) -> None:
    path = written(tmp_path, '[checks]\ninterval = "soon"\nintervall = "1 s"\n[nonsense]\na = 1\n')
    with pytest.raises(SettingsInvalidError) as caught:
        read_settings(path, {"BYOKD_MQTT__WINDOW": "none", "BYOKD_MQTT__WINDOWS": "1"})
    said = {f"{mistake.place}: {mistake.message}" for mistake in caught.value.mistakes}
    assert len(said) == 5
    text = "\n".join(said)
    assert "[checks] interval: not a duration: write a number and a unit" in text
    assert "[checks] intervall: there is no such setting; there are concurrency, confirm_after" in text
    assert "nonsense: there is no such setting" in text
    assert "BYOKD_MQTT__WINDOW: [mqtt] window" in text
    assert "BYOKD_MQTT__WINDOWS: [mqtt] windows: there is no such setting" in text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[checks\n", "is not TOML"),
        ('[checks]\nrecheck_first = "10 min"\n', "recheck_most is shorter than recheck_first"),
        ('[store]\nurl = "mysql://x"\n', "[store] url"),
        ('[mqtt]\nurl = "mqtt://user:secret@host"\n', "[mqtt] url"),
        ('[mqtt]\ntopic_prefix = "Byokd/#"\n', "not a topic prefix"),
        ('[http]\nlisten = "localhost:1"\n', "needs an IP address"),
        ('[identities.Bad_Name]\nkind = "managed-identity"\n', "identities"),
        ('[service]\nsocket = "api.sock"\n', "not an absolute path"),
        ('[vaults]\nallowed_suffixes = [".vault.azure.net"]\n', "not a host suffix"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsInvalidError, match=named.replace("[", r"\[")):
        read_settings(written(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalidError, match="cannot be read"):
        read_settings(tmp_path / "none.toml", {})
