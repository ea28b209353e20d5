"""`byokd emulator`: the process, and its verbs against a running emulator."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner, Result

from byokd.cli.emulator import emulator as group
from byokd.emulator import ControlClient, Emulator
from emulator.support import KEY, VAULT, Clock

RUN = [sys.executable, "-c", "from byokd.cli.emulator import emulator; emulator()", "run", "--json"]


async def byokd(emulator: Emulator, *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, group, ["--control", emulator.http_url, *words])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_says_where_it_is_and_ends_well_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *RUN,
        "--state-dir",
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    async with ControlClient(ready["control"]) as control:
        assert (await control.create_vault(VAULT))["url"] == f"https://{VAULT}.vault.azure.net"
    assert Path(ready["ca"]) == tmp_path / "ca.pem"
    assert ready["tls"].startswith("127.0.0.1:")
    process.send_signal(number)
    assert (await process.communicate())[0] == b""
    assert process.returncode == 0


async def test_verbs_do_what_they_say(emulator: Emulator, clock: Clock) -> None:
    steps = (
        f"vault create {VAULT} --soft-delete-days 7",
        f"key create {VAULT} {KEY} --size 2048 --key-op wrapKey --key-op unwrapKey",
        f"key rotate {VAULT} {KEY}",
        f"key disable {VAULT} {KEY}",
        f"key enable {VAULT} {KEY} --version newest",
        f"key set {VAULT} {KEY} --version all --exp 4000000000",
        f"key set {VAULT} {KEY} --exp none --key-op unwrapKey",
        f"grant {VAULT} get wrapKey --key {KEY}",
        f"revoke {VAULT} get",
        f"vault firewall {VAULT} on",
        f"fault set {VAULT} throttle --share 0.5 --count 3 --operation get",
        "identity create worker",
        "dialect expired_unwrap_refused on",
    )
    for step in steps:
        result = await byokd(emulator, *step.split())
        assert (result.exit_code, result.stderr) == (0, ""), step
    state = await emulator.control.state()
    (vault,), (fault,) = state["vaults"], state["faults"]
    first, second = vault["keys"][0]["versions"]
    assert (first["enabled"], first["exp"], first["key_ops"]) == (False, 4_000_000_000, ["wrapKey", "unwrapKey"])
    assert (second["enabled"], second["exp"], second["key_ops"]) == (True, None, ["unwrapKey"])
    now = clock.now
    in_force = [
        (one["permission"], one["key"]) for one in vault["grants"] if one["until"] is None or one["until"] > now
    ]
    assert in_force == [("wrapKey", KEY)]
    assert (vault["soft_delete_days"], vault["network"]) == (7, "firewall")
    assert (fault["kind"], fault["share"], fault["count"], fault["operations"]) == ("throttle", 0.5, 3, ["get"])
    assert [one["name"] for one in state["principals"]] == ["system", "worker"]
    assert state["dialects"]["expired_unwrap_refused"]


async def test_verbs_undo_what_others_did(vault: Emulator) -> None:
    for step in (f"key delete {VAULT} {KEY}", f"key recover {VAULT} {KEY}", f"vault delete {VAULT}"):
        assert (await byokd(vault, *step.split())).exit_code == 0
    assert (await vault.control.vault(VAULT))["deleted"]
    for step in (f"vault recover {VAULT}", f"key delete {VAULT} {KEY}", f"key purge {VAULT} {KEY}", "fault clear"):
        assert (await byokd(vault, *step.split())).exit_code == 0
    shown = await vault.control.vault(VAULT)
    assert (shown["deleted"], shown["keys"], shown["deleted_keys"]) == (None, [], [])


async def test_verbs_print_words_or_json(vault: Emulator) -> None:
    words = await byokd(vault, "key", "list", VAULT)
    assert words.output.startswith(f"key {KEY}: newest version ")
    document = json.loads((await byokd(vault, "key", "list", VAULT, "--json")).output)
    assert document == [await vault.control.key(VAULT, KEY)]
    async with aiohttp.ClientSession(connector=vault.connector()) as session:
        await session.get(f"https://{VAULT}.vault.azure.net/keys/{KEY}")
    assert f"1  {VAULT}  get  401  AKV10000" in (await byokd(vault, "calls")).output
    assert (await byokd(vault, "calls", "--reset")).exit_code == 0
    assert (await byokd(vault, "calls")).output == "no calls\n"


async def test_refusal_is_explained_with_a_hint(emulator: Emulator) -> None:
    result = await byokd(emulator, "vault", "delete", "nowhere")
    assert result.exit_code == 1
    assert result.stderr == "byokd: there is no vault named 'nowhere'\nhint: `byokd emulator state` lists them\n"


@pytest.mark.parametrize(
    "words", ["state", "fault set contoso nonsense", "key set contoso k --exp soon", "grant contoso fly"]
)
def test_wrong_use_is_exit_status_two(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BYOKD_EMULATOR", raising=False)
    assert CliRunner().invoke(group, words.split()).exit_code == 2
