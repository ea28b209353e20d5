"""The customers' order of steps, and an operator's repair, by the command line on real processes."""

import asyncio
import json
from pathlib import Path

from byokd.demo.processes import byokd_command
from byokd.demo.stage import Stage
from byokd.emulator.world import SUBSCRIPTION
from service.support import BASE, KEY, VAULT, Ran, apply, byokd, customer, manifest

SPARE = """
[identities.spare]
kind = "managed-identity"
client_id = "{client}"
"""


def without_key(stage: Stage, tenant: str) -> Path:
    path = stage.directory / "without-key.yaml"
    path.write_text(
        f"accounts:\n  - id: {BASE}/contoso\n    tenant: {tenant}\n    location: westeurope\n"
        "    encryption: {type: SystemKey, identity: platform}\n"
    )
    return path


async def repair(stage: Stage, *options: str) -> Ran:
    return await byokd("accounts", "repair", "contoso", *options, environment=stage.environment)


async def granted_while_waiting(stage: Stage, tenant: str) -> tuple[int | None, str]:
    """Apply the key, and grant as soon as the verb says that it waits for that."""
    process = await asyncio.create_subprocess_exec(
        *byokd_command("accounts", "apply", "-f", str(manifest(stage, tenant))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=stage.environment,
    )
    assert process.stderr is not None
    said = (await process.stderr.readline()).decode()
    await stage.control.grant(VAULT)
    out, err = await process.communicate()
    assert said.startswith("waiting: a vault refuses 1 account yet"), said + err.decode()
    return process.returncode, out.decode()


async def test_create_grant_set_the_key_lose_it_and_repair(stage: Stage) -> None:
    tenant = await customer(stage)
    await stage.control.revoke(VAULT)
    created = await apply(stage, without_key(stage, tenant))
    assert (created.code, created.out) == (0, "created    contoso\n")
    shown = json.loads((await byokd("accounts", "show", "contoso", "--json", environment=stage.environment)).out)
    assert (shown["encryption"]["type"], shown["encryption"]["identity"]) == ("SystemKey", "platform")

    await stage.control.grant(VAULT, permissions=["get", "wrapKey"])
    refused = await apply(stage, manifest(stage, tenant), "--json")
    (result,) = json.loads(refused.out)["results"]
    assert (refused.code, result["action"], result["missing"]) == (1, "refused", ["unwrapKey"])
    assert await granted_while_waiting(stage, tenant) == (0, "updated    contoso\n")

    works = await repair(stage, "--identity", "platform")
    assert "already" in works.err
    await stage.control.revoke(VAULT)
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("state") == "Inaccessible", seconds=12)
    unknown = await repair(stage, "--identity", "spare")
    assert (unknown.code, unknown.err) == (
        1, "error: there is no identity 'spare' in the settings\nhint: there are: behind, platform, vendor\n"
    )  # fmt: skip
    assert "not a tenant id" in (await repair(stage, "--tenant", "contoso")).err
    spare = await stage.control.create_identity("spare")
    settings = stage.directory / "byokd.toml"
    settings.write_text(settings.read_text() + SPARE.format(client=spare["client_id"]))
    assert (await byokd("reload", environment=stage.environment)).code == 0
    ungranted = await repair(stage, "--identity", "spare")
    assert (ungranted.code, ungranted.out) == (1, "refused    contoso\n")
    assert "it lacks the permission get, wrapKey and unwrapKey" in ungranted.err
    await stage.control.grant(VAULT, principal="spare")
    repaired = await repair(stage, "--identity", "spare")
    assert (repaired.code, repaired.out) == (0, "repaired   contoso\n"), repaired.err
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("state") == "Accessible", seconds=12)
    checked = await byokd("check", "contoso", environment=stage.environment)
    assert checked.out.startswith(f"Usable: {KEY}/")


ARM = """
[arm]
enabled = true
subscriptions = ["{subscription}"]
"""


async def test_a_vault_of_another_region_is_refused_where_arm_tells(stage: Stage) -> None:
    tenant = await customer(stage)
    settings = stage.directory / "byokd.toml"
    ways = f'"management.azure.com" = "{stage.tls}", "*.vault.azure.net"'
    text = settings.read_text().replace('"*.vault.azure.net"', ways, 1) + ARM.format(subscription=SUBSCRIPTION)
    settings.write_text(text)
    assert (await byokd("reload", environment=stage.environment)).code == 0
    elsewhere = manifest(stage, tenant, name="elsewhere")
    elsewhere.write_text(elsewhere.read_text().replace("westeurope", "northeurope"))
    untold = await apply(stage, elsewhere)
    assert (untold.code, untold.out) == (0, "created    elsewhere\n"), "who may not read is told nothing"
    await byokd("accounts", "delete", "elsewhere", environment=stage.environment)
    await stage.control.set_reader(VAULT)
    settings.write_text(text.replace('instance = "demo"', 'instance = "demo"\nlog_level = "warning"'))
    assert (await byokd("reload", environment=stage.environment)).code == 0, "what is kept of ARM goes with a reload"
    refused = await apply(stage, elsewhere)
    assert (refused.code, refused.out) == (1, "refused    elsewhere\n")
    assert "the vault is in the region westeurope, the account in northeurope" in refused.err
    assert (await apply(stage, manifest(stage, tenant))).out == "created    contoso\n"
