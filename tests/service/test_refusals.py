"""What is refused before anything is started, and verbs that work without a daemon: what they say and how they end."""

from pathlib import Path

from byokd.demo.stage import make_service_keys
from parts.waiting import eventually
from service.support import byokd, plain_environment
from service.test_process import daemon, settings, status


async def test_wrong_settings_are_all_named_and_nothing_is_started(tmp_path: Path) -> None:
    path = settings(tmp_path)
    path.write_text(path.read_text() + '[checks]\ninterval = "soon"\nnonsense = 1\n')
    for verb in ("run", "check-config"):
        ran = await byokd(verb, "--settings", str(path), environment=plain_environment() | {"BYOKD_MQTT__WINDOW": "x"})
        assert ran.code == 2
        assert f"error: {path}: [checks] interval: not a duration" in ran.err
        assert f"error: {path}: [checks] nonsense: there is no such setting" in ran.err
        assert "error: BYOKD_MQTT__WINDOW: [mqtt] window" in ran.err
        assert "nothing was started: 3 mistakes" in ran.err
    assert not (tmp_path / "byokd.db").exists()


async def test_files_that_settings_name_are_looked_into_before_the_start(tmp_path: Path) -> None:
    path = settings(tmp_path)
    (tmp_path / "ca.pem").write_text("not PEM")
    path.write_text(path.read_text() + f'[network]\nca_file = "{tmp_path}/ca.pem"\n')
    missing = {f"BYOKD_MQTT__{name}": str(tmp_path / "none") for name in ("CA_FILE", "PASSWORD_FILE")}
    missing |= {"BYOKD_MQTT__URL": "mqtts://127.0.0.1:1", "BYOKD_MQTT__USERNAME": "byokd"}
    for verb in ("run", "check-config"):
        ran = await byokd(verb, "--settings", str(path), environment=plain_environment() | missing)
        assert ran.code == 2
        assert f"error: {path}: [network] ca_file: holds no PEM certificate" in ran.err
        assert "error: BYOKD_MQTT__CA_FILE: [mqtt] ca_file: cannot be read: No such file" in ran.err
        assert "error: BYOKD_MQTT__PASSWORD_FILE: [mqtt] password_file: cannot be read: No such file" in ran.err
        assert "nothing was started: 3 mistakes" in ran.err
        assert "Traceback" not in ran.err
    assert not (tmp_path / "byokd.db").exists()


async def test_missing_or_unsafe_service_keys_refuse_the_start(tmp_path: Path) -> None:
    path = settings(tmp_path, keys=False)
    missing = await byokd("run", "--settings", str(path), environment=plain_environment())
    assert missing.code == 2
    assert "hint: " in missing.err
    make_service_keys(tmp_path / "keys")
    (tmp_path / "keys/system.1.key").chmod(0o644)
    unsafe = await byokd("run", "--settings", str(path), environment=plain_environment())
    assert unsafe.code == 2
    assert "system.1.key" in unsafe.err


async def test_other_service_keys_than_those_that_sealed_the_database_refuse_the_start(tmp_path: Path) -> None:
    path = settings(tmp_path)
    async with daemon(path):

        async def ready() -> bool:
            return bool((await status(tmp_path))["ready"])

        await eventually(ready)
    (tmp_path / "keys/storage.1.key").write_bytes(b"another key of thirty-two bytes.")
    other = await byokd("run", "--settings", str(path), environment=plain_environment())
    assert other.code == 2
    assert "these service keys are not those that sealed the database: storage.1" in other.err
    (tmp_path / "keys/audit.1.key").rename(tmp_path / "keys/audit.2.key")
    missing = await byokd("run", "--settings", str(path), environment=plain_environment())
    assert missing.code == 2
    assert "service keys that are not there: audit.1" in missing.err


async def test_verbs_without_a_daemon_say_what_to_do(tmp_path: Path) -> None:
    ran = await byokd("accounts", "list", environment=plain_environment() | {"BYOKD_SOCKET": str(tmp_path / "none")})
    assert ran.code == 1
    assert ran.err.startswith(f"error: cannot reach the daemon at {tmp_path}/none")
    assert "hint: is it running?" in ran.err


async def test_the_database_is_upgraded_offline(tmp_path: Path) -> None:
    path = settings(tmp_path)
    environment = plain_environment()
    assert (await byokd("db", "status", "--settings", str(path), environment=environment)).code == 1
    upgraded = await byokd("db", "upgrade", "--settings", str(path), environment=environment)
    assert upgraded.out.startswith("upgraded the schema from nothing to ")
    assert (await byokd("db", "status", "--settings", str(path), environment=environment)).code == 0
