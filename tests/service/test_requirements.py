"""A vault that loses, on a real daemon, what was wanted of it: told, shown, and no more than that."""

import json

from byokd.demo.stage import Stage
from byokd.emulator.world import SUBSCRIPTION
from parts.waiting import eventually
from service.support import VAULT, apply, byokd, customer, manifest

SETTINGS = f"""
[arm]
enabled = true
subscriptions = ["{SUBSCRIPTION}"]
interval = "1 s"
"""


async def configured(stage: Stage) -> None:
    """Lead ARM's name to the emulator too, and let it be asked."""
    path = stage.directory / "byokd.toml"
    led = path.read_text().replace("connect_to = { ", f'connect_to = {{ "management.azure.com" = "{stage.tls}", ')
    path.write_text(led + SETTINGS)
    reloaded = await byokd("reload", environment=stage.environment)
    assert reloaded.code == 0, reloaded.err


async def warned(stage: Stage) -> list[str]:
    shown = await byokd("accounts", "show", "contoso", "--json", environment=stage.environment)
    account = json.loads(shown.out)
    assert account["state"] == "Accessible"
    return sorted(warning["kind"] for warning in account["warnings"])


async def until_warned(stage: Stage, *kinds: str) -> None:
    async def is_warned() -> bool:
        return await warned(stage) == sorted(kinds)

    await eventually(is_warned)


def told(stage: Stage, *, since: int) -> list[str]:
    of_keys = [one for one in stage.watcher.heard[since:] if "/keys/" in one.topic]
    return sorted(one.type.removeprefix("byokd.key.") for one in of_keys)


async def test_what_a_vault_loses_is_told_once_shown_and_taken_back_when_it_is_there_again(stage: Stage) -> None:
    await configured(stage)
    tenant = await customer(stage)
    await stage.control.set_reader(VAULT)
    applied = await apply(stage, manifest(stage, tenant))
    assert applied.code == 0, applied.err
    begun = stage.watcher.mark()

    await stage.control.change_vault(VAULT, region="East US", soft_delete=False, purge_protection=False)
    await until_warned(stage, "PurgeProtectionOff", "SoftDeleteOff", "VaultElsewhere")
    explained = await byokd("explain", "contoso", environment=stage.environment)
    assert "the vault is in the region eastus, accounts with this key are in westeurope" in explained.out
    assert "properties.enableSoftDelete=true" in explained.out

    async def is_counted() -> bool:
        return await stage.service.metric('byokd_warnings{kind="VaultElsewhere"}') == 1.0

    await eventually(is_counted)

    await stage.control.set_reader(VAULT, present=False)
    await stage.control.change_vault(VAULT, region="westeurope", soft_delete=True, purge_protection=True)
    await until_warned(stage, "SoftDeleteOff", "VaultElsewhere")
    await stage.service.kill()
    await stage.service.start()
    assert await warned(stage) == ["SoftDeleteOff", "VaultElsewhere"], "who cannot ask takes nothing back"
    await stage.control.set_reader(VAULT)
    await until_warned(stage)
    await stage.watcher.until(lambda: len(told(stage, since=begun)) >= 3, seconds=10)
    assert told(stage, since=begun) == ["purge-protection-off", "soft-delete-off", "vault-elsewhere"]
