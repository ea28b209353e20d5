"""Protected values in a running daemon: what the customer's key protects, and who may see it."""

import base64
import json

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
