import json
import time

from byokd.demo.stage import Stage
from byokd.emulator.documents import KeyAttributes
from service.support import BASE, KEY, VAULT, apply, byokd, customer, entry, manifest


async def test_accounts_are_applied_shown_checked_and_deleted(stage: Stage) -> None:
    tenant = await customer(stage)
    await stage.control.change_key(VAULT, "media", exp=int(time.time()) + 10 * 86_400)
    path = manifest(stage, tenant)
    created = await apply(stage, path)
    assert (created.code, created.out, created.err) == (0, "created    contoso\n", "")
    again = await apply(stage, path)
    assert (again.code, again.out) == (0, "unchanged  contoso\n")

    checked = await byokd("check", "contoso", environment=stage.environment)
    assert checked.code == 0
    second = await apply(stage, manifest(stage, tenant, name="fabrikam"))
    assert (second.code, second.out) == (0, "created    fabrikam\n")
    assert second.err.startswith("warning: fabrikam: NearExpiry: expires at "), "and yet created"

    shown = await byokd("accounts", "show", "contoso", "--json", environment=stage.environment)
    account = json.loads(shown.out)
    version = (await stage.control.key(VAULT, "media"))["newest"]
    assert account["state"] == "Accessible"
    assert [(one["kind"], one["version"]) for one in account["warnings"]] == [("NearExpiry", version)]
    assert account["encryption"]["currentKeyIdentifier"] == f"{KEY}/{version}"
    by_id = await byokd("accounts", "show", f"{BASE.upper()}/CONTOSO", "--json", environment=stage.environment)
    assert json.loads(by_id.out) == account

    assert checked.out.startswith(f"Usable: {KEY}/{version}")
    told = "warning: NearExpiry: expires at "
    text = await byokd("accounts", "show", "contoso", environment=stage.environment)
    assert [line.startswith(told) for line in text.out.splitlines()[-1:]] == [True]
    assert told in checked.out

    explained = await byokd("explain", "contoso", "--json", environment=stage.environment)
    assert (explained.code, json.loads(explained.out)["account"]["name"]) == (0, "contoso")
    settings = stage.environment | {"BYOKD_SETTINGS": str(stage.directory / "byokd.toml")}
    examined = await byokd("doctor", "--json", environment=settings)
    *findings, last = map(json.loads, examined.out.splitlines())
    assert (examined.code, last["ok"]) == (0, True), [found for found in findings if found["grade"] == "bad"]
    manager, *identities = [one for one in findings if one["grade"] != "ok"]
    assert manager["what"] == "service-manager"
    unused = [(one["what"], one["grade"], one["found"].partition(" from ")[0]) for one in identities]
    # The stage's settings name an application and its identity that nobody has made here.
    assert unused == [("identities", "warn", f"no token for {name}") for name in ("behind", "vendor")]
    assert all(one["found"].endswith("; no account uses it") for one in identities)
    assert f"held by process {stage.daemon.pid}" in examined.out
    await stage.control.set_fault("managed-identity", "unavailable")
    broken = await byokd("doctor", environment=settings)
    assert (broken.code, broken.err) == (1, "")
    assert "\nbad   identities       no token for platform from http://127.0.0.1:" in broken.out
    await stage.control.clear_faults()

    deleted = await byokd("accounts", "delete", "contoso", environment=stage.environment)
    assert (deleted.code, deleted.out) == (0, "deleted    contoso\n")
    gone = await byokd("accounts", "show", "contoso", environment=stage.environment)
    assert gone.code == 1
    assert gone.err == "error: there is no account 'contoso'\nhint: byokd accounts list shows all\n"


async def test_an_account_moves_between_the_system_key_and_customer_keys(stage: Stage) -> None:
    tenant = await customer(stage)
    await stage.control.create_key(VAULT, "other", size=3072)
    system = stage.directory / "system.toml"
    system.write_text(
        f'[[accounts]]\nid = "{BASE}/contoso"\ntenant = "{tenant}"\n'
        'location = "westeurope"\nencryption.type = "SystemKey"\n'
    )
    other = manifest(stage, tenant, key=KEY.replace("media", "other"))
    assert (await apply(stage, system)).out == "created    contoso\n"
    assert (await apply(stage, other)).out == "updated    contoso\n"
    assert (await apply(stage, manifest(stage, tenant))).out == "updated    contoso\n"
    assert (await apply(stage, system)).out == "updated    contoso\n"
    account = json.loads((await byokd("accounts", "show", "contoso", "--json", environment=stage.environment)).out)
    assert account["encryption"]["type"] == "SystemKey"
    assert account["generation"] == 4


async def test_a_file_with_mistakes_is_refused_whole_and_each_is_named_with_its_line(stage: Stage) -> None:
    tenant = await customer(stage)
    path = manifest(stage, tenant)
    text = path.read_text()
    path.write_text(
        text
        + f"""\
  - id: {BASE}/second
    tenant: somebody
    location: westeurope
    encryption:
      type: CustomerKey
      identity: nobody
      keyIdentifier: https://customer-keys.vault.azure.net.example.com/keys/media
"""
    )
    refused = await apply(stage, path)
    assert refused.code == 1
    assert refused.out == ""
    assert f"{path}:7: accounts[1].tenant: not a tenant id" in refused.err
    assert f"{path}:11: accounts[1].encryption.identity: there is no identity 'nobody'" in refused.err
    assert f"{path}:12: accounts[1].encryption.keyIdentifier: host" in refused.err
    assert "nothing was applied: 3 mistakes" in refused.err
    listed = await byokd("accounts", "list", "--json", environment=stage.environment)
    assert json.loads(listed.out) == []


UNFIT: dict[str, tuple[KeyAttributes, str]] = {
    "curve": ({"type": "EC", "curve": "P-256"}, "KeyTypeUnsupported: the key is of type 'EC'"),
    "small": ({"size": 1024}, "KeyTypeUnsupported: the key has 1024 bits"),
    "disabled": ({"size": 2048, "enabled": False}, "the version is disabled"),
    "half": ({"size": 2048, "key_ops": ["wrapKey"]}, "the key operations lack unwrapKey"),
    "expired": ({"size": 2048, "exp": 1_000_000_000}, "the version expired at 2001-09-09T01:46:40Z"),
}


async def test_unfit_keys_are_refused_with_the_reason_and_the_rest_of_the_file_is_applied(stage: Stage) -> None:
    tenant = await customer(stage)
    path = manifest(stage, tenant)
    for name, (options, _) in UNFIT.items():
        await stage.control.create_key(VAULT, name, **options)
        path.write_text(path.read_text() + entry(tenant, name=name, key=KEY.replace("media", name)))
    refused = await apply(stage, path)
    assert refused.code == 1
    assert refused.out.split() == ["created", "contoso", *(word for name in UNFIT for word in ("refused", name))]
    for name, (_, said) in UNFIT.items():
        assert f"error: {name}: {said}" in refused.err
    assert refused.err.count("hint: ") == len(UNFIT)


async def test_a_key_without_a_grant_in_another_tenant_or_absent_is_refused_with_what_to_do(stage: Stage) -> None:
    tenant = await customer(stage)
    await stage.control.revoke(VAULT)
    refused = await apply(stage, manifest(stage, tenant))
    assert refused.code == 1
    assert "waiting: a vault refuses 1 account yet" in refused.err
    assert "error: contoso: the vault refuses the identity platform: it lacks the permission get" in refused.err
    assert "\n  az role assignment create --role 'Key Vault Crypto Service Encryption User'" in refused.err
    await stage.control.grant(VAULT)
    foreign = await apply(stage, manifest(stage, "99999999-9999-4999-8999-999999999999"))
    assert "the vault belongs to another tenant" in foreign.err
    absent = await apply(stage, manifest(stage, tenant, key=KEY + "-nothing"))
    assert "there is no such key or version" in absent.err


async def test_an_inaccessible_account_can_be_shown_and_deleted_but_not_changed(stage: Stage) -> None:
    tenant = await customer(stage)
    path = manifest(stage, tenant)
    await apply(stage, path)
    await stage.control.disable_key(VAULT, "media")
    assert await stage.watcher.until(lambda: stage.watcher.state("contoso").get("state") == "Inaccessible", seconds=12)
    path.write_text(path.read_text().replace("westeurope", "northeurope"))
    refused = await apply(stage, path)
    assert refused.code == 1
    assert "the account is Inaccessible: the key version is disabled" in refused.err
    listed = await byokd("accounts", "list", environment=stage.environment)
    assert listed.out.splitlines()[1].split()[:3] == ["contoso", "Inaccessible", "KeyDisabled"]
    checked = await byokd("check", "contoso", environment=stage.environment)
    assert checked.code == 1
    assert checked.out.startswith("Denied (KeyDisabled)")
    assert (await byokd("accounts", "delete", "contoso", environment=stage.environment)).code == 0
