"""`byokd emulator subscription`: what the verbs do and say."""

import asyncio
import json

import pytest
from click.testing import CliRunner, Result

from byokd.cli.emulator import emulator as group
from byokd.emulator import Emulator
from byokd.emulator.world import HOME_TENANT
from emulator.receiver import Receiver
from emulator.support import KEY, VAULT

CREATE = f"subscription create {VAULT} to-byokd"


async def byokd(emulator: Emulator, *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, group, ["--control", emulator.http_url, *words])


async def test_verbs_subscribe_list_and_end(vault: Emulator, receiver: Receiver) -> None:
    options = (
        "--schema cloudevents --topic keyvault --header x-secret=s3cret=1 --token-audience api://byokd "
        "--token-version 2 --event-type Microsoft.KeyVault.KeyNewVersionCreated --batch-size 5 --parallel 2 "
        f"--answer-seconds 3 --attempts 4 --wait-scale 0.5 --ca-file {vault.ca_file}"
    )
    made = await byokd(vault, *CREATE.split(), f"{receiver.url}?code=s3cret", *options.split(), "--json")
    assert (made.exit_code, made.stderr) == (0, "")
    state = json.loads(made.output)
    token = {
        "tenant": HOME_TENANT,
        "audience": "api://byokd",
        "application": "4962773b-9cdb-44cf-a8bf-237846a00ab7",
        "version": 2,
    }
    assert state == {
        "name": "to-byokd",
        "endpoint": receiver.url,
        "topic": "keyvault",
        "schema": "CloudEventSchemaV1_0",
        "headers": ["x-secret"],
        "token": token,
        "event_types": ["Microsoft.KeyVault.KeyNewVersionCreated"],
        "batch_size": 5,
        "parallel": 2,
        "answer_seconds": 3.0,
        "attempts": 4,
        "wait_scale": 0.5,
        "waiting": 0,
    }
    await vault.control.rotate_key(VAULT, KEY)
    (got,) = await receiver.got(1)
    assert (got.headers["x-secret"], len(got.body)) == ("s3cret=1", 1)
    words = await byokd(vault, "subscription", "list", VAULT)
    line = f"subscription to-byokd: keyvault to {receiver.url} with header x-secret, a token; 0 waiting\n"
    assert words.output == line
    assert (await byokd(vault, "subscription", "delete", VAULT, "to-byokd")).exit_code == 0
    assert (await byokd(vault, "subscription", "list", VAULT)).output == "no subscriptions\n"


async def test_refused_handshake_is_explained_with_a_hint(vault: Emulator) -> None:
    result = await byokd(vault, *CREATE.split(), "http://127.0.0.1:1/events")
    assert result.exit_code == 1
    assert "byokd: the handshake with http://127.0.0.1:1/events failed: it gave no answer" in result.stderr
    assert "hint: the endpoint must be running" in result.stderr


@pytest.mark.parametrize("words", ["--header nosign", "--token-tenant x", "--event-type KeyDeleted", "--batch-size 0"])
def test_wrong_use_is_exit_status_two(words: str) -> None:
    command = ["--control", "http://127.0.0.1:1", *CREATE.split(), "http://127.0.0.1:1/", *words.split()]
    assert CliRunner().invoke(group, command).exit_code == 2
