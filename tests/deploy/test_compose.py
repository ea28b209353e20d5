"""deploy/compose.yaml fits what it puts together. Whether the containers run is not tried here: there is no Docker."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

import byokd
from byokd.runtime.configuration import read_settings
from byokd.settings import Settings

CHECKOUT = Path(byokd.__file__).parent.parent.parent
DEPLOY = CHECKOUT / "deploy"
KEYS = "/etc/byokd/keys"


@pytest.fixture
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The mounted settings, with secrets that exist here."""
    return read_settings(with_secrets(tmp_path), {})


def with_secrets(directory: Path) -> Path:
    text = (DEPLOY / "compose.toml").read_text().replace("/run/secrets", str(directory))
    for name in ("postgresql_password", "mqtt_password"):
        (directory / name).write_text("secret\n")
    path = directory / "byokd.toml"
    path.write_text(text)
    return path


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """What is at which path, secrets included."""
    secrets = [one if isinstance(one, dict) else {"source": one} for one in service.get("secrets", ())]
    return {one["target"]: one["source"] for one in service["volumes"]} | {
        one.get("target", f"/run/secrets/{one['source']}"): one["source"] for one in secrets
    }


def directives() -> dict[str, str]:
    """The settings of deploy/mosquitto."""
    lines = (DEPLOY / "mosquitto/mosquitto.conf").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


def test_the_mounted_settings_are_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "byokd", "check-config", "--settings", str(with_secrets(tmp_path))]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_no_container_can_do_more_than_it_must(compose: dict[str, Any]) -> None:
    stages = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert not {"ports", "privileged", "cap_add", "pid", "ipc"} & set(service), name
        if "user" not in service:
            (stage,) = (stage for stage in stages if f" AS {service['build']['target']}\n" in stage)
            assert "\nUSER " in stage
        else:
            assert service["user"].partition(":")[0] not in {"0", "root"}


def test_secrets_are_files_and_nothing_else(compose: dict[str, Any]) -> None:
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    for service in compose["services"].values():
        for one in service.get("secrets", ()):
            assert (one["source"] if isinstance(one, dict) else one) in compose["secrets"]
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or (name.endswith("_FILE") and value in mounts(service))


def test_whatever_is_mounted_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for one in service["volumes"]:
            if one["type"] == "volume":
                assert one["source"] in compose["volumes"]
            elif "secrets" not in one["source"]:
                assert (DEPLOY / one["source"]).exists()
                assert one["read_only"] is True


def test_byokd_finds_its_files(compose: dict[str, Any], settings: Settings) -> None:
    service = compose["services"]["byokd"]
    at = mounts(service)
    text = (DEPLOY / "compose.toml").read_text()
    for line in text.splitlines():
        if line.startswith("password_file"):
            assert line.split('"')[1] in at
    assert at[KEYS] == "./secrets/keys"
    assert settings.service_keys.directory is None
    socket = Path(settings.service.socket).parent
    assert any(str(one).startswith(f"{socket}:") for one in service["tmpfs"])
    assert f"http://{settings.http.listen}/livez" in service["healthcheck"]["test"][-1]


def test_byokd_and_mosquitto_meet_on_loopback(compose: dict[str, Any], settings: Settings) -> None:
    services, said = compose["services"], directives()
    assert services["byokd"]["network_mode"] == services["mosquitto"]["network_mode"] == "service:network"
    # Who has the network of one that restarts has none any more: the owner does nothing that can fail.
    assert services["network"]["entrypoint"] == ["sleep", "infinity"]
    port, _, address = said["listener"].partition(" ")
    assert settings.mqtt.url == f"mqtt://{address}:{port}"
    assert services["mosquitto"]["healthcheck"]["test"][-1].endswith(f"/dev/tcp/{address}/{port}")
    at = mounts(services["mosquitto"])
    assert at["/etc/mosquitto/conf.d/byokd.conf"] == "./mosquitto/mosquitto.conf"
    assert at[said["acl_file"]] == "./mosquitto/acl"
    assert at[said["password_file"]] == "mqtt_passwords"
    assert at[said["persistence_location"].rstrip("/")] in compose["volumes"]
    assert f"user {settings.mqtt.username}\n" in (DEPLOY / "mosquitto/acl").read_text()
    assert f"topic readwrite {settings.mqtt.topic_prefix}/#" in (DEPLOY / "mosquitto/acl").read_text()
    assert "/etc/mosquitto/conf.d/byokd.conf" in (DEPLOY / "Dockerfile").read_text()


def test_what_is_done_once_is_done_by_containers_that_may_do_it(compose: dict[str, Any]) -> None:
    head = (DEPLOY / "compose.yaml").read_text().partition("\nname:")[0].replace("\\\n#", "")
    images = {service["image"] for service in compose["services"].values() if "build" in service}
    once = [line for line in head.splitlines() if "/secrets:/secrets" in line]
    assert len(once) == 3
    for line in once:
        # `docker compose run` would take away what the services lack: capabilities, and a root that can be written.
        assert line.startswith("#   docker run --rm --user 0 --entrypoint ")
        assert line.partition('/secrets:/secrets" ')[2].split()[0] in images


def test_byokd_and_postgresql_meet_at_a_socket(compose: dict[str, Any], settings: Settings) -> None:
    services = compose["services"]
    url, postgresql = urlsplit(settings.store.url), services["postgresql"]
    (directory,) = parse_qs(url.query)["host"]
    assert mounts(services["byokd"])[directory] == mounts(postgresql)[directory]
    assert (url.username, url.path) == (postgresql["environment"]["POSTGRES_USER"], "/byokd")
    assert postgresql["environment"]["POSTGRES_DB"] == "byokd"
    assert postgresql["network_mode"] == "none"


def test_the_image_gets_what_the_installation_needs() -> None:
    script = (DEPLOY / "install.sh").read_text()
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert all((CHECKOUT / name).exists() for name in let_in)
    for needed in ("requirements.txt", "requirements-build.txt", "config", "systemd"):
        assert f"$checkout/{needed}" in script
        assert needed in let_in
    project = (CHECKOUT / "pyproject.toml").read_text()
    assert 'readme = "README.md"' in project
    assert {"pyproject.toml", "README.md", "LICENSE", "daemon", "deploy/install.sh"} <= let_in
