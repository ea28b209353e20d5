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
LATER = SETTINGS.replace('interval = "1 s"', 'interval = "1 d"')


async def configured(stage: Stage) -> None:
    """Lead ARM's name to the emulator too, and let it be asked."""
    path = stage.directory / "byokd.toml"
    led = path.read_text().replace("connect_to = { ", f'connect_to = {{ "management.azure.com" = "{stage.tls}", ')
    path.write_text(led + SETTINGS)
    await reload(stage)


async def reload(stage: Stage) -> None:
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
    """What was told of keys, once for each event: a daemon that dies sends again what it has not noted as sent."""
    of_keys = {one.event["id"]: one for one in stage.watcher.heard[since:] if "/keys/" in one.topic}
    return sorted(one.type.removeprefix("byokd.key.") for one in of_keys.values())


async def asked_of_arm(stage: Stage) -> dict[str, int]:
    return {one["operation"]: one["count"] for one in await stage.control.calls() if one["target"] == "arm"}


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


async def test_an_operator_who_checks_has_arm_asked_too_and_nobody_is_asked_sooner_otherwise(stage: Stage) -> None:
    await configured(stage)
    tenant = await customer(stage)
    await stage.control.set_reader(VAULT)
    applied = await apply(stage, manifest(stage, tenant))
    assert applied.code == 0, applied.err

    async def was_asked_twice() -> bool:
        return (await asked_of_arm(stage)).get("get", 0) > 2  # once by the registration

    await eventually(was_asked_twice)
    path = stage.directory / "byokd.toml"
    path.write_text(path.read_text().replace(SETTINGS, LATER))
    await reload(stage)
    await stage.control.change_vault(VAULT, region="eastus")
    await stage.control.reset_calls()
    assert await warned(stage) == []
    checked = await byokd("check", "contoso", environment=stage.environment)
    assert checked.out.startswith("Usable"), checked.err
    await until_warned(stage, "VaultElsewhere")
    assert await asked_of_arm(stage) == {"get": 1, "list": 2}, (
        "listed in the account's subscription, then in the named one"
    )
