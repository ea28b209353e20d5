"""Sources of Event Grid in the settings: what belongs to each kind, and what a queue's address may be."""

from pathlib import Path

import pytest

from byokd.runtime.configuration import SettingsInvalidError, read_settings

GUID = "00000000-0000-0000-0000-00000000dead"
IDENTITIES = f"""
[identities.platform]
kind = "managed-identity"
[identities.pods]
kind = "workload-identity"
client_id = "{GUID}"
tenant = "{GUID}"
token_file = "/nowhere"
[identities.vendor]
kind = "cross-tenant"
client_id = "{GUID[:-1]}1"
via = "platform"
"""
QUEUE = "https://contosoevents.queue.core.windows.net/keyvault-events"


def source(**fields: str) -> str:
    told = {"kind": '"queue"', "queue": f'"{QUEUE}"', "identity": '"platform"', "vaults": '["*.vault.azure.net"]'}
    lines = "".join(f"{name} = {value}\n" for name, value in {**told, **fields}.items() if value)
    return f"{IDENTITIES}\n[event_grid.sources.customers]\n{lines}".replace('token_file = "/nowhere"', "")


def read(tmp_path: Path, text: str) -> str:
    """Give what is wrong with it, if anything is."""
    path = tmp_path / "byokd.toml"
    (tmp_path / "token").write_text("e30.e30.x")
    path.write_text(text)
    try:
        settings = read_settings(path, {})
    except SettingsInvalidError as error:
        return "\n".join(f"{mistake.message}" for mistake in error.mistakes)
    assert set(settings.event_grid.sources) == set(settings.event_grid.queues) | set(settings.event_grid.webhooks)
    return ""


def managed(text: str) -> str:
    """Without the identities that need files."""
    begun, ended = text.index("[identities.pods]"), text.index("[identities.vendor]")
    return text[:begun] + text[ended:]


@pytest.mark.parametrize(
    "address",
    [
        QUEUE,
        "https://contosoevents.queue.core.usgovcloudapi.net/abc",
        "https://contosoevents.privatelink.example.com:8443/events",
        "https://127.0.0.1:10001/devstoreaccount1/events",
    ],
)
def test_a_queue_can_be_written(tmp_path: Path, address: str) -> None:
    more = {"poison_queue": '"poison"', "visibility_timeout": '"30 s"', "batch": "32", "max_tries": "1"}
    assert read(tmp_path, managed(source(queue=f'"{address}"', **more))) == ""


@pytest.mark.parametrize(
    "address",
    [
        "http://contosoevents.queue.core.windows.net/events",
        "https://user:secret@contosoevents.queue.core.windows.net/events",
        "https://contosoevents.queue.core.windows.net/events?sv=2022&sig=secret",
        "https://contosoevents.queue.core.windows.net/",
        "https://contosoevents.queue.core.windows.net/ab",
        "https://contosoevents.queue.core.windows.net/Events",
        "https://contosoevents.queue.core.windows.net/two--hyphens",
        "https://contosoevents.queue.core.windows.net/-events",
        "https://contosoevents.queue.core.windows.net/" + "x" * 64,
        "https://contosoevents.queue.core.windows.net/a/b/events",
        "https://contosoevents.queue.core.windows.net\\@elsewhere/events",
        "https://contosoevents.blob.core.windows.net/events",
        "https://contoso.vault.azure.net/events",
        "https://contosoevents.queue.core.windows.net./events",
    ],
)
def test_what_is_no_address_of_a_queue_is_refused_without_its_secrets(tmp_path: Path, address: str) -> None:
    said = read(tmp_path, managed(source(queue=f"'{address}'")))
    assert "[event_grid.sources.customers] queue: not the address of a queue" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"queue": ""}, "queue is missing"),
        ({"identity": ""}, "identity is missing"),
        ({"identity": '"nobody"'}, "there is no identity nobody: platform, vendor"),
        ({"identity": '"vendor"'}, "tenant is missing"),
        ({"poison_queue": '"keyvault-events"'}, "poison_queue is the queue itself"),
        ({"poison_queue": '"https://elsewhere/x"'}, "not the name of a queue"),
        ({"secret_file": '"/nowhere"'}, "secret_file does not belong to kind queue"),
        ({"audience": '"x"'}, "audience does not belong to kind queue"),
        ({"batch": "33"}, "batch"),
        ({"visibility_timeout": '"500 ms"'}, "whole seconds"),
        ({"visibility_timeout": '"8 d"'}, "whole seconds"),
        ({"kind": '"webhook"'}, "queue does not belong to kind webhook; identity does not belong to kind webhook"),
        ({"kind": '"topic"'}, "kind"),
        ({"vaults": ""}, "vaults"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, fields: dict[str, str], wrong: str) -> None:
    assert wrong in read(tmp_path, managed(source(**fields)))


def test_an_application_is_told_the_tenant_of_the_storage_account_or_has_one_of_its_own(tmp_path: Path) -> None:
    assert read(tmp_path, managed(source(identity='"vendor"', tenant=f'"{GUID}"'))) == ""
    mine = source(identity='"pods"').replace(f'tenant = "{GUID}"\n', f'tenant = "{GUID}"\ntoken_file = "/nowhere"\n')
    # What is wrong with the identity's file is, and nothing of the queue.
    said = read(tmp_path, mine)
    assert "token_file" in said
    assert "event_grid" not in said


def test_one_queue_is_read_by_one_source(tmp_path: Path) -> None:
    where = f'queue = "{QUEUE}"\nidentity = "platform"\nvaults = ["*.vault.azure.net"]\n'
    other = f'[event_grid.sources.other]\nkind = "queue"\n{where}'
    assert "customers reads it already" in read(tmp_path, managed(source()) + other)
    assert read(tmp_path, managed(source()) + other.replace("keyvault-events", "more-events")) == ""
