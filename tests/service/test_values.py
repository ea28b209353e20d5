"""Protected values in a running daemon: what the customer's key protects, and who may see it."""

import asyncio
import base64
import json
import os
import pty
from asyncio.subprocess import PIPE

import aiohttp

from byokd.demo.processes import byokd_command
from byokd.demo.stage import Stage
from service.support import VAULT, Ran, apply, byokd, customer, manifest

CONTENT = b"a content key, in the clear: \x00\xff\n" * 3


async def accounts(stage: Stage, verb: str, *arguments: str) -> Ran:
    return await byokd("accounts", verb, "contoso", *arguments, environment=stage.environment)


async def protect(stage: Stage, name: str, content: bytes, *, kind: str = "content-key") -> Ran:
    path = stage.directory.with_name(f"{stage.directory.name}-{name}.value")
    path.write_bytes(content)
    try:
        return await accounts(stage, "protect", "--kind", kind, "--name", name, "--file", str(path))
    finally:
        path.unlink()


async def reveal(stage: Stage, name: str, *, kind: str = "content-key") -> tuple[bytes, Ran]:
    ran = await accounts(stage, "reveal", "--kind", kind, "--name", name, "--json")
    return (b"" if ran.code else _content(ran)), ran


def _content(ran: Ran) -> bytes:
    return base64.b64decode(json.loads(ran.out)["content"])


async def test_values_outlive_rotations_stop_with_the_key_and_come_back_with_it(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    written = await protect(stage, "video-1", CONTENT)
    assert (written.code, written.out) == (0, "protected  content-key video-1 (revision 1)\n")
    assert (await reveal(stage, "video-1"))[0] == CONTENT

    await stage.control.rotate_key(VAULT, "media")
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("sequence") == 2, seconds=12)
    assert (await reveal(stage, "video-1"))[0] == CONTENT
    again = await protect(stage, "video-1", CONTENT + b"!")
    assert again.out == "protected  content-key video-1 (revision 2)\n"

    await stage.control.disable_key(VAULT, "media")
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("state") == "Inaccessible", seconds=12)
    _, refused = await reveal(stage, "video-1")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: the account is Inaccessible: the key version is disabled\nhint: enable the")
    assert (await protect(stage, "video-2", CONTENT)).code == 1
    listed = json.loads((await accounts(stage, "values", "--json")).out)
    assert [(value["name"], value["revision"]) for value in listed] == [("video-1", 2)]

    await stage.control.enable_key(VAULT, "media")
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("state") == "Accessible", seconds=12)
    assert (await reveal(stage, "video-1"))[0] == CONTENT + b"!"
    erased = await accounts(stage, "unprotect", "--kind", "content-key", "--name", "video-1")
    assert (erased.code, erased.out) == (0, "erased     content-key video-1\n")
    _, unknown = await reveal(stage, "video-1")
    assert unknown.err == (
        "error: the account 'contoso' has no protected value content-key video-1\n"
        "hint: byokd accounts values shows all names\n"
    )


async def test_values_are_in_no_log_metric_page_event_error_or_file(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    secret = b"correct-horse-battery-staple"
    assert (await protect(stage, "one", secret)).code == 0
    assert (await protect(stage, "one", secret + b"-2")).code == 0
    said = [(await protect(stage, "two", secret * 1000)).err]
    connector = aiohttp.UnixConnector(path=stage.environment["BYOKD_SOCKET"])
    async with aiohttp.ClientSession(connector=connector) as session:
        for body in (
            {"kind": "nothing", "name": "one", "content": base64.b64encode(secret).decode()},
            {"kind": "content-key", "content": base64.b64encode(secret).decode()},
            {"kind": "content-key", "name": secret.decode(), "content": secret.decode()},
            [secret.decode()],
        ):
            async with session.post("http://byokd/account/values?ref=contoso", json=body) as response:
                assert response.status == 422
                said.append(await response.text())
    await stage.control.disable_key(VAULT, "media")
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("state") == "Inaccessible", seconds=12)
    said.append((await reveal(stage, "one"))[1].err)
    said.append((stage.directory / "daemon.log").read_text())
    said.append(json.dumps([heard.event for heard in stage.watcher.heard]))
    async with aiohttp.ClientSession() as session:
        for page in ("metrics", "healthz"):
            async with session.get(f"{stage.health_url}/{page}") as response:
                said.append(await response.text())
    assert "byokd_plaintext_held 0.0" in said[-2]
    assert 'byokd_plaintext_drops_total{cause="denied"} 1.0' in said[-2]
    assert "plaintext-dropped" in said[-4]
    files = [path.read_bytes() for path in stage.directory.glob("byokd.db*")]
    assert len(files) >= 1
    held = [text.encode() for text in said] + files
    assert not [found for found in held if secret in found or base64.b64encode(secret)[:20] in found]


async def test_standard_input_and_output_carry_the_bytes_as_they_are(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    named = ("--kind", "token-key", "--name", "t")
    command = byokd_command("accounts", "protect", "contoso", *named)
    piped = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "env": stage.environment}
    writing = await asyncio.create_subprocess_exec(*command, **piped)
    await writing.communicate(CONTENT)
    assert writing.returncode == 0
    command = byokd_command("accounts", "reveal", "contoso", *named)
    reading = await asyncio.create_subprocess_exec(*command, **piped)
    assert (await reading.communicate())[0] == CONTENT

    primary, terminal = pty.openpty()
    try:
        reading = await asyncio.create_subprocess_exec(*command, **(piped | {"stdout": terminal}))
        _, err = await reading.communicate()
        assert reading.returncode == 1
        assert b"error: the value is not text, and a terminal might obey it\nhint: send it to a file" in err
    finally:
        os.close(primary)
        os.close(terminal)


async def test_mistakes_in_the_command_are_usage_and_bounds_are_said(stage: Stage) -> None:
    await apply(stage, manifest(stage, await customer(stage)))
    wrong_name = await accounts(stage, "reveal", "--kind", "content-key", "--name", "a/b")
    assert wrong_name.code == 2
    assert wrong_name.err.startswith("error: not a name of a protected value: 'a/b'\nhint: 1 to 128 letters")
    assert (await accounts(stage, "reveal", "--kind", "password", "--name", "a")).code == 2
    large = await protect(stage, "large", b"x" * 16_385)
    assert large.code == 1
    assert large.err.startswith("error: a protected value has at most 16384 bytes, this one has 16385\nhint: ")
    assert (await protect(stage, "empty", b"")).code == 0
    assert (await reveal(stage, "empty"))[0] == b""
