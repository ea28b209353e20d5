"""A cross-tenant account on a real daemon: named by ARM id, without its managed identity for a while, thrown out."""

import json

from byokd.demo.stage import Stage
from byokd.emulator.world import HOME_TENANT
from parts.waiting import eventually
from service.support import apply, byokd, manifest

CUSTOMER = "33333333-3333-3333-3333-333333333333"
VAULT = "customer-keys"


async def shown(stage: Stage, name: str) -> dict[str, object]:
    ran = await byokd("accounts", "show", name, "--json", environment=stage.environment)
    account: dict[str, object] = json.loads(ran.out)
    return account


async def configured(stage: Stage) -> str:
    """Let the platform have a user-assigned identity, and an application that trusts it; give the identity's ARM id."""
    user = await stage.control.create_identity("platform")
    issuer = f"https://login.microsoftonline.com/{HOME_TENANT}/v2.0"
    trust = {"issuer": issuer, "subject": user["object_id"]}
    made = await stage.control.create_application("vendor", federations=[trust], consented=[CUSTOMER])
    with (stage.directory / "byokd.toml").open("a") as file:
        file.write(f'[identities.user]\nkind = "managed-identity"\nresource_id = "{user["resource_id"]}"\n')
        file.write(f'[identities.seller]\nkind = "cross-tenant"\nclient_id = "{made["client_id"]}"\nvia = "user"\n')
    reloaded = await byokd("reload", environment=stage.environment)
    assert reloaded.code == 0, reloaded.err
    return str(user["resource_id"])


async def test_a_cross_tenant_account_through_trouble_of_ours_and_the_customers_word(stage: Stage) -> None:
    arm_id = await configured(stage)
    await stage.control.set_token_seconds(application=4, identity=4)
    await stage.control.create_vault(VAULT, tenant=CUSTOMER, purge_protection=True)
    await stage.control.create_key(VAULT, "media", size=2048)
    await stage.control.grant(VAULT, "vendor")
    path = manifest(stage, CUSTOMER)
    path.write_text(path.read_text().replace("identity: platform", "identity: seller"))
    applied = await apply(stage, path)
    assert applied.out == "created    contoso\n", applied.err

    own = manifest(stage, HOME_TENANT, name="fabrikam", key="https://own-keys.vault.azure.net/keys/media")
    own.write_text(own.read_text().replace("identity: platform", f"identity: {arm_id.upper()}"))
    await stage.control.create_vault("own-keys", tenant=HOME_TENANT, purge_protection=True)
    await stage.control.create_key("own-keys", "media", size=2048)
    await stage.control.grant("own-keys", "platform")
    applied = await apply(stage, own)
    assert applied.out == "created    fabrikam\n", applied.err
    assert (await shown(stage, "fabrikam"))["encryption"]["identity"] == "user"  # type: ignore[index]

    await stage.control.detach_identity("platform")

    async def says_what_is_wrong() -> bool:
        checked = await byokd("check", "contoso", "--json", environment=stage.environment)
        return "CredentialUnavailableError.via-user" in checked.out

    await eventually(says_what_is_wrong)
    assert (await shown(stage, "contoso"))["state"] == "Accessible", "it is our own trouble"
    await stage.control.attach_identity("platform")

    async def is_usable() -> bool:
        return (await byokd("check", "contoso", environment=stage.environment)).out.startswith("Usable")

    await eventually(is_usable)
    await stage.control.change_application("vendor", withdraw=CUSTOMER)

    async def is_denied() -> bool:
        account = await shown(stage, "contoso")
        return (account["state"], account["reason"]) == ("Inaccessible", "ConsentWithdrawn")

    await eventually(is_denied)
    assert (await shown(stage, "fabrikam"))["state"] == "Accessible"
    await stage.control.change_application("vendor", consent=CUSTOMER)
    await stage.control.grant(VAULT, "vendor")
    await eventually(is_usable)
