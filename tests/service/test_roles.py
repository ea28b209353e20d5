"""A role above the vault gives byokd its access, and takes it, on a real daemon."""

from byokd.demo.stage import Stage
from service.support import VAULT, apply, byokd, manifest

ROLE = "Key Vault Crypto Service Encryption User"


async def test_a_role_of_the_resource_group_or_the_subscription_gives_access_and_takes_it(stage: Stage) -> None:
    vault = await stage.control.create_vault(VAULT, purge_protection=True)
    await stage.control.create_key(VAULT, "media", size=2048)
    path = manifest(stage, vault["tenant"])
    refused = await apply(stage, path)
    assert (refused.code, "lacks the permission" in refused.err) == (1, True), refused.err
    ran = await byokd("emulator", "role", "assign", VAULT, ROLE, "--at", "group", environment=stage.environment)
    assert ran.code == 0, ran.err
    applied = await apply(stage, path)
    assert applied.out == "created    contoso\n", applied.err

    async def until(state: str, reason: str | None) -> None:
        def is_told() -> bool:
            told = stage.watcher.state("contoso")
            return (told.get("state"), told.get("reason")) == (state, reason)

        assert await stage.watcher.until(is_told, seconds=20) is not None, stage.watcher.state("contoso")

    await until("Accessible", None)
    await stage.control.remove_role(VAULT, ROLE, at="group")
    await until("Inaccessible", "AccessDenied")
    await stage.control.assign_role(VAULT, ROLE, at="subscription", delay_seconds=1)
    await until("Accessible", None)
    await stage.control.remove_role(VAULT, ROLE, at="subscription", delay_seconds=1)
    await until("Inaccessible", "AccessDenied")
