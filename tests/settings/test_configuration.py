import os
from datetime import timedelta
from pathlib import Path

import pytest

from byokd.emulator.tls import make_context
from byokd.runtime.configuration import SettingsInvalidError, read_settings
from byokd.settings import Settings
from identity.proofs import own_certificate


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "byokd.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    settings = read_settings(None, {})
    assert settings.checks.interval == timedelta(seconds=60)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[checks]\ninterval = "30 s"\n[http]\nlisten = "127.0.0.1:1"\n')
    settings = read_settings(path, {"BYOKD_CHECKS__INTERVAL": "2 min", "OTHER_CHECKS__INTERVAL": "ignored"})
    assert settings.checks.interval == timedelta(minutes=2)
    assert settings.http.listen == "127.0.0.1:1"


def test_one_identity_may_have_two_names_where_both_are_shared(tmp_path: Path) -> None:
    shared = "[identities.one]\nshared = true\n[identities.two]\nshared = true\n"
    apart = '[identities.three]\nclient_id = "c0000000-0000-0000-0000-000000000000"\n[identities.four]\n'
    assert len(read_settings(written(tmp_path, shared), {}).identities) == 2
    assert len(read_settings(written(tmp_path, apart), {}).identities) == 2


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
    assert "[checks] intervall: there is no such setting; there are clock_skew, concurrency, confirm_after" in text
    assert "nonsense: there is no such setting" in text
    assert "BYOKD_MQTT__WINDOW: [mqtt] window" in text
    assert "BYOKD_MQTT__WINDOWS: [mqtt] windows: there is no such setting" in text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[checks\n", "is not TOML"),
        ('[checks]\nrecheck_first = "10 min"\n', "recheck_most is shorter than recheck_first"),
        ('[mqtt]\nreconnect_first = "40 s"\n', "mqtt: reconnect_most is shorter than reconnect_first"),
        ('[rewrap]\nretry_first = "1 h"\n', "rewrap: retry_most is shorter than retry_first"),
        ('[rewrap]\nvault_backoff_most = "1 s"\n', "rewrap: vault_backoff_most is shorter than vault_backoff_first"),
        ('[mqtt]\nalpn = "mqtt"\n', "mqtt: alpn is of TLS, and url is without: write mqtts://"),
        ('[mqtt]\noutbox_retention = "91 d"\n', "mqtt.outbox_retention is longer than store.history_retention"),
        ('[store]\nhistory_retention = "30 min"\n', "mqtt.outbox_retention is longer than store.history_retention"),
        ("[identities.one]\n[identities.two]\n", "identities.one and identities.two are the same identity"),
        ("[identities.one]\nshared = true\n[identities.two]\n", "are the same identity, and not both shared"),
        ('[arm]\nsubscriptions = ["all"]\n', "not a GUID: write it as Azure shows it"),
        ('[store]\nurl = "mysql://x"\n', "[store] url: not a database URL: write sqlite:///"),
        ('[store]\nurl = "sqlite:///"\n', "[store] url: not a database URL"),
        ('[store]\nurl = "postgresql://byokd@db"\n', "[store] url: not a database URL"),
        ('[store]\nurl = "postgresql:///byokd"\n', "[store] url: not a database URL"),
        ('[store]\nurl = "postgresql://byokd@db/byokd?sslmode=disable"\n', "TLS is set by store.tls"),
        ('[store]\ntls = "require"\n', "[store] tls: "),
        ('[service]\ninstance = "Byokd 1"\n', "[service] instance: not a name: 1 to 63 lower-case letters"),
        ('[service]\ninstance = "byokd\\n"\n', "[service] instance: not a name"),
        ('[mqtt]\nurl = "broker:1883"\n', "[mqtt] url: not a broker URL: write mqtt://host:port"),
        ('[mqtt]\nurl = "mqtt://broker:0"\n', "[mqtt] url: not a broker URL"),
        ('[mqtt]\nurl = "mqtt://broker:65536"\n', "[mqtt] url: not a broker URL"),
        ('[checks]\ndeadline = "3651 d"\n', '[checks] deadline: too long: a duration is at most "3650 d"'),
        ('[checks]\ndeadline = "999999999999999999 d"\n', "[checks] deadline: too long"),
        (f'[checks]\ndeadline = "{"9" * 400} d"\n', "[checks] deadline: too long"),
        ('[checks]\ndeadline = "0.0001 ms"\n', "[checks] deadline: a duration must be longer than nothing"),
        ('[http]\nallowed_hosts = "localhost"\n', '[http] allowed_hosts: not a list: write a list, such as ["one"'),
        ('[identities.one]\nshared = "yes"\n', "[identities.one] shared: not a switch: write true or false"),
        ("[arm]\nenabled = 1\n", "[arm] enabled: not a switch: write true or false, without quotes (found '1')"),
        ("[vaults]\nallowed_suffixes = []\n", "[vaults] allowed_suffixes: an empty list: write a list"),
        ('checks = "often"\n', "checks: is a section, not a value"),
        ('identities = "platform"\n', "identities: is a section, not a value"),
        (f"[checks]\nconcurrency = {'9' * 5000}\n", "is not TOML"),
        ('[mqtt]\ntopic_prefix = "Byokd/#"\n', "not a topic prefix"),
        (f'[mqtt]\ntopic_prefix = "{"p" * 129}"\n', "too long: a topic prefix has at most 128 characters"),
        ('[mqtt]\nkeepalive = "1 d"\n', '[mqtt] keepalive: too long: MQTT has room for "18 h" at most'),
        ('[mqtt]\nkeepalive = "65536 s"\n', "[mqtt] keepalive: too long"),
        (f'[mqtt]\nusername = "{"ü" * 32768}"\n', "[mqtt] username: too long: MQTT has room for 65535 bytes of UTF-8"),
        ('[mqtt]\nusername = "by\\u0000okd"\n', "[mqtt] username: not a user name: there are control characters in it"),
        ('[mqtt]\nusername = "byokd\\n"\n', "[mqtt] username: not a user name"),
        ('[mqtt]\nurl = "mqtt://broker..example"\n', "[mqtt] url: not a broker URL"),
        (f'[mqtt]\nurl = "mqtt://{"b" * 64}:1883"\n', "[mqtt] url: not a broker URL"),
        ('[mqtt]\nurl = "mqtt://[broker"\n', "[mqtt] url: not a broker URL"),
        ('[mqtt]\nurl = "mqtt://bro\\u0000ker"\n', "[mqtt] url: not a broker URL"),
        ('[http]\nlisten = "localhost:1"\n', "needs an IP address"),
        ('[identities.Bad_Name]\nkind = "managed-identity"\n', "[identities.Bad_Name]: not a name: 1 to 63 lower-case"),
        ('[service]\nsocket = "api.sock"\n', "not an absolute path"),
        ('[vaults]\nallowed_suffixes = [".vault.azure.net"]\n', "not a host suffix"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsInvalidError) as caught:
        read_settings(written(tmp_path, text), {})
    (mistake,) = caught.value.mistakes
    assert named in f"{mistake.place}: {mistake.message}"


def test_every_switch_takes_true_and_false_alone_from_the_environment_too() -> None:
    switches = {
        f"BYOKD_{section}__{name}".upper()
        for section, group in Settings.model_fields.items()
        for name, field in getattr(group.annotation, "model_fields", {}).items()
        if isinstance(field.default, bool)
    }
    assert len(switches) > 2
    for variable in switches:
        for text in ("yes", "no", "1", "on", "True", ""):
            assert "not a switch" in mistakes(None, {variable: text})[0]
        for text in ("true", "false"):
            assert read_settings(None, {variable: text})


def mistakes(path: Path | None, environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsInvalidError) as caught:
        read_settings(path, environment)
    return [f"{mistake.place}: {mistake.message}" for mistake in caught.value.mistakes]


def test_the_password_in_a_url_is_not_repeated(tmp_path: Path) -> None:
    (said,) = mistakes(written(tmp_path, '[mqtt]\nurl = "mqtt://user:secret@host"\n'), {})
    assert "[mqtt] url: not a broker URL" in said
    assert "mqtt.password_file" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "url",
    ["postgresql://byokd:secret@db/byokd", "postgresql://db/byokd?password=secret", "postgres://u:secret@db/byokd"],
)
def test_the_password_of_a_database_goes_into_a_file(url: str) -> None:
    (said,) = mistakes(None, {"BYOKD_STORE__URL": url})
    assert "[store] url: a password in the URL" in said
    assert "store.password_file" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://byokd@db.example:5433/byokd",
        "postgresql://db/byokd",
        "postgresql://byokd@[::1]:5432/byokd",
        "postgresql://byokd@one:5432,two/byokd",
        "postgresql://byokd@/byokd?host=/run/postgresql",
        "postgresql:///byokd?host=/run/postgresql&port=5433",
    ],
)
def test_a_database_server_can_be_named(url: str) -> None:
    store = read_settings(None, {"BYOKD_STORE__URL": url}).store
    assert (store.url, store.path) == (url, None)


def test_postgresql_without_its_driver_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byokd.settings.store.find_spec", lambda _: None)
    (said,) = mistakes(None, {"BYOKD_STORE__URL": "postgresql://db/byokd"})
    assert "pip install 'byokd[postgresql]'" in said
    assert read_settings(None, {}).store.path is not None


def test_a_huge_duration_hides_no_other_mistake(tmp_path: Path) -> None:
    path = written(tmp_path, '[checks]\ninterval = "999999999999999999 d"\n[mqtt]\nwindow = 0\n')
    assert len(mistakes(path, {})) == 2


def test_the_longest_duration_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, '[rewrap]\nsettle = "3650 d"\n')
    assert read_settings(path, {}).rewrap.settle == timedelta(days=3650)


@pytest.mark.parametrize(
    ("variable", "right"),
    [
        ("BYOKD_OTHER", "names no setting: write BYOKD_<SECTION>__<NAME> with two underscores between, such as"),
        ("BYOKD_", "names no setting"),
        ("BYOKD_SOCKETS", "names no setting"),
        ("BYOKD_CHECKS", "names only a section: write BYOKD_<SECTION>__<NAME> with two underscores between, such as B"),
        ("BYOKD_IDENTITIES", "such as BYOKD_IDENTITIES__PLATFORM__CLIENT_ID"),
        ("BYOKD_CHECKS_INTERVAL", "as in BYOKD_CHECKS__INTERVAL"),
        ("BYOKD_SERVICE_KEYS_DIRECTORY", "as in BYOKD_SERVICE_KEYS__DIRECTORY"),
    ],
)
def test_a_variable_that_would_be_ignored_is_a_mistake(variable: str, right: str) -> None:
    (said,) = mistakes(None, {variable: "secret-5"})
    assert said.startswith(f"{variable}: ")
    assert right in said
    assert "secret-5" not in said


def test_variables_of_the_command_line_and_of_tests_are_no_settings() -> None:
    names = ("BYOKD_SETTINGS", "BYOKD_SOCKET", "BYOKD_EMULATOR", "BYOKD_TESTS_REQUIRE_REAL", "BYOKD_TESTS_A__B")
    assert read_settings(None, dict.fromkeys(names, "x")) == read_settings(None, {})


def test_the_name_of_an_identity_is_refused_at_its_variable() -> None:
    (said,) = mistakes(None, {"BYOKD_IDENTITIES__BAD_NAME__CLIENT_ID": "00000000-0000-0000-0000-00000000dead"})
    assert said.startswith("BYOKD_IDENTITIES__BAD_NAME__CLIENT_ID: [identities.bad_name]: not a name")


FILES = [
    ("missing", "cannot be read: No such file or directory"),
    ("directory", "not a file"),
    ("pipe", "not a file"),
    ("nothing\\u0000", "cannot be read: it is not a path"),
]


@pytest.mark.parametrize(("name", "named"), FILES)
@pytest.mark.parametrize(
    ("section", "setting", "right"),
    [
        ("network", "ca_file", "write the path of a readable PEM file"),
        ("mqtt", "ca_file", "write the path of a readable PEM file"),
        ("store", "ca_file", "write the path of a readable PEM file"),
        ("store", "password_file", "write the path of a readable file that holds the password"),
        ("mqtt", "password_file", "write the path of a readable file that holds the password"),
    ],
)
def test_an_unusable_file_is_a_mistake_among_others(
    tmp_path: Path, section: str, setting: str, right: str, name: str, named: str
) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    rest = 'url = "mqtts://broker"\nusername = "byokd"\n' if section == "mqtt" else ""
    path = written(tmp_path, f'[{section}]\n{rest}{setting} = "{tmp_path}/{name}"\n[checks]\ninterval = "soon"\n')
    other, said = mistakes(path, {})
    assert "[checks] interval" in other
    assert said.startswith(f"{path}: [{section}] {setting}: {named}")
    assert right in said


@pytest.mark.parametrize("section", ["network", "mqtt"])
@pytest.mark.parametrize(
    "content", [b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates_is_named_at_the_variable_that_gave_it(
    tmp_path: Path, section: str, content: bytes
) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(content)
    variable = f"BYOKD_{section.upper()}__CA_FILE"
    (said,) = mistakes(None, {variable: str(authorities), "BYOKD_MQTT__URL": "mqtts://broker"})
    assert said.startswith(f"{variable}: [{section}] ca_file: holds no PEM certificate")


def test_a_password_that_is_no_text_is_a_mistake_and_not_shown(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_bytes(b"hidden\xff")
    (said,) = mistakes(None, {"BYOKD_MQTT__USERNAME": "byokd", "BYOKD_MQTT__PASSWORD_FILE": str(password)})
    assert "[mqtt] password_file: is not UTF-8 text" in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"hidden" * 10_923, "is longer than the 65535 bytes that MQTT has room for"),
        (b"hidden\0", "has a NUL character in it"),
    ],
)
def test_a_password_that_no_broker_can_be_told_is_a_mistake_and_not_shown(
    tmp_path: Path, content: bytes, named: str
) -> None:
    password = tmp_path / "password"
    password.write_bytes(content)
    (said,) = mistakes(None, {"BYOKD_MQTT__USERNAME": "byokd", "BYOKD_MQTT__PASSWORD_FILE": str(password)})
    assert f"[mqtt] password_file: {named}" in said
    assert "hidden" not in said


def test_the_longest_that_mqtt_has_room_for_is_taken(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_bytes(b"p" * 65_535 + b"\r\n")
    longest = {"KEEPALIVE": "18 h", "USERNAME": "u" * 65_535, "PASSWORD_FILE": str(password), "TOPIC_PREFIX": "p" * 128}
    mqtt = read_settings(None, {f"BYOKD_MQTT__{name}": value for name, value in longest.items()}).mqtt
    assert (mqtt.keepalive, len(mqtt.topic_prefix)) == (timedelta(hours=18), 128)


def test_a_file_that_would_be_shown_to_nobody_is_a_mistake(tmp_path: Path) -> None:
    own, password = tmp_path / "own.pem", tmp_path / "password"
    own_certificate(own, ends_in=timedelta(days=90))
    password.write_text("p\n")
    files = {"BYOKD_MQTT__CA_FILE": str(own), "BYOKD_MQTT__CERTIFICATE_FILE": str(own)}
    (said,) = mistakes(None, files | {"BYOKD_MQTT__PASSWORD_FILE": str(password)})
    assert "ca_file is of TLS, and url is without: write mqtts://" in said
    assert "certificate_file is of TLS" in said
    assert "password_file needs username" in said
    secure = {"BYOKD_MQTT__URL": "mqtts://broker", "BYOKD_MQTT__USERNAME": "byokd"}
    assert read_settings(None, files | secure | {"BYOKD_MQTT__PASSWORD_FILE": str(password)})


def test_authorities_for_no_tls_with_the_database_are_a_mistake(tmp_path: Path) -> None:
    make_context(tmp_path / "ca.pem")
    authorities = {"BYOKD_STORE__CA_FILE": str(tmp_path / "ca.pem")}
    (said,) = mistakes(None, authorities | {"BYOKD_STORE__TLS": "off"})
    assert "store: ca_file is of TLS, and tls is off" in said
    assert read_settings(None, authorities | {"BYOKD_STORE__URL": "sqlite:////nowhere"})


def test_usable_files_are_taken(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    make_context(authorities)
    password = tmp_path / "password"
    password.write_text("p\n")
    names = {"BYOKD_NETWORK__CA_FILE": authorities, "BYOKD_MQTT__CA_FILE": authorities}
    environment = {name: str(path) for name, path in {**names, "BYOKD_MQTT__PASSWORD_FILE": password}.items()}
    environment |= {"BYOKD_MQTT__URL": "mqtts://broker", "BYOKD_MQTT__USERNAME": "byokd"}
    settings = read_settings(None, environment)
    assert settings.network.ca_file == settings.mqtt.ca_file == authorities


def test_a_relative_file_is_one_mistake(tmp_path: Path) -> None:
    (said,) = mistakes(written(tmp_path, '[network]\nca_file = "ca.pem"\n'), {})
    assert "not an absolute path" in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalidError, match="cannot be read"):
        read_settings(tmp_path / "none.toml", {})


def test_who_does_not_want_to_wait_for_a_grant_does_not(tmp_path: Path) -> None:
    assert not read_settings(
        written(tmp_path, '[registration]\nwait_for_grant = "0 s"\n'), {}
    ).registration.wait_for_grant
    with pytest.raises(SettingsInvalidError, match="longer than nothing"):
        read_settings(written(tmp_path, '[checks]\ninterval = "0 s"\n'), {})
