"""Every reason and warning has a remedy, with the real names in it, and nothing that a shell would take for more."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.domain.remedies import _REASONS, _WARNINGS, Case, Mender, Remedy, remedy, remedy_of_warning, tagging
from byokd.domain.vocabulary import AccountFault, Reason, WarningKind
from domain.scenes import DENIALS

VERSION = "0123456789abcdef0123456789abcdef"
TENANT = TenantId("11111111-2222-3333-4444-555555555555")
KEY = KeyIdentifier(VaultHost("contoso.vault.azure.net"), "media", KeyVersion(VERSION))
CASE = Case(KEY, TENANT, IdentityName("platform"), "c11e", None, None, datetime(2026, 3, 1, 12, tzinfo=UTC))
ACCOUNT = AccountId("0f8fad5b-d9cb-469f-a165-70867728950e", "rg(1)", "contoso")
EXACT = {
    "KeyDisabled": f"az keyvault key set-attributes --vault-name contoso --name media --version {VERSION} "
    "--enabled true",
    "KeyExpired": f"az keyvault key set-attributes --vault-name contoso --name media --version {VERSION} "
    "--expires 2027-03-01T12:00:00Z",
    "KeyNotYetValid": f"az keyvault key set-attributes --vault-name contoso --name media --version {VERSION} "
    "--not-before 2026-03-01T12:00:00Z",
    "KeyOperationNotPermitted": f"az keyvault key set-attributes --vault-name contoso --name media --version {VERSION} "
    "--ops wrapKey unwrapKey",
    "AccessDenied": "az role assignment create --role 'Key Vault Crypto Service Encryption User' --assignee c11e "
    '--scope "$(az keyvault show --name contoso --query id --output tsv)"/keys/media',
    "NetworkBlocked": "az keyvault network-rule add --name contoso "
    '--ip-address "${ADDRESS:?public address of byokd, as the vault sees it}"',
    "KeyNotFound": "az keyvault key recover --vault-name contoso --name media",
    "KeyVersionNotFound": "az keyvault key restore --vault-name contoso --file "
    '"${BACKUP:?file of the backup of the key}"',
    "ProbeMismatch": 'az keyvault key restore --vault-name contoso --file "${BACKUP:?file of the backup of the key}"',
    "WrongTenant": f"az keyvault update --name contoso --set properties.tenantId={TENANT}",
    "VaultNotFound": "az keyvault recover --name contoso",
    "ConsentWithdrawn": "az ad sp create --id c11e",
    "Unverified": "byokd doctor",
    "AccountKeyDamaged": "byokd keys verify",
}


def test_every_reason_has_a_remedy_and_no_remedy_is_of_a_reason_that_is_not() -> None:
    assert _REASONS.keys() == {*Reason, *AccountFault}


def test_every_warning_has_a_remedy() -> None:
    assert _WARNINGS.keys() == set(WarningKind)
    for kind in WarningKind:
        assert remedy_of_warning(kind, CASE).commands


@pytest.mark.parametrize("reason", [*DENIALS, Reason.UNVERIFIED, *AccountFault])
def test_what_makes_an_account_inaccessible_is_mended_by_exactly_this_command(reason: Reason) -> None:
    made = remedy(reason, CASE)
    assert EXACT[reason] in made.commands
    assert made.mender is (Mender.OPERATOR if reason in {"Unverified", "AccountKeyDamaged"} else Mender.CUSTOMER)
    if made.mender is Mender.CUSTOMER:
        assert made.portal is not None
        assert made.portal.startswith("portal.azure.com > ")


def test_without_a_client_id_the_principal_is_asked_for_by_the_shell_itself() -> None:
    by_role, by_policy = remedy(Reason.ACCESS_DENIED, replace(CASE, client_id=None)).commands
    asked = '"${PRINCIPAL:?object id of the managed identity of byokd}"'
    assert f"--assignee {asked} " in by_role
    assert f"--object-id {asked} " in by_policy


def test_closed_public_access_is_another_matter_than_a_missing_address() -> None:
    first, _ = remedy(Reason.NETWORK_BLOCKED, replace(CASE, inner_code="ForbiddenByConnection")).commands
    assert first.startswith("az keyvault update --name contoso --public-network-access Enabled ")


def test_a_vault_that_is_to_stay_in_its_new_tenant_is_followed_by_the_operator() -> None:
    assert "`byokd accounts repair ACCOUNT --tenant TENANT`" in remedy(Reason.WRONG_TENANT, CASE).text


def test_other_clouds_are_named_first() -> None:
    key = KeyIdentifier(VaultHost("contoso.vault.azure.cn"), "media", KeyVersion(VERSION))
    made = remedy(Reason.KEY_DISABLED, replace(CASE, key=key))
    assert made.commands[0] == "az cloud set --name AzureChinaCloud"
    assert str(made.portal).startswith("portal.azure.cn > ")
    assert remedy(Reason.TIMED_OUT, replace(CASE, key=key)).commands == ("byokd doctor",)


SHELL = """\
exec 3>&1 1>/dev/null
az() {{ printf '%s\\0' "$#" "$@" >&3; printf id; }}
byokd() {{ az "$@"; }}
PRINCIPAL=p CLIENT_ID=c ADDRESS=a BACKUP=b FILE=f
{commands}
"""
hostile = st.text(alphabet="a-$`\"'\\;|&<>(){}*?!#~ \t\n\x1b=é", min_size=1, max_size=12)


@settings(max_examples=30)
@given(name=hostile, vault=hostile, version=hostile, client=hostile, tenant=hostile)
def test_whatever_the_identifiers_hold_they_stay_values_of_options(
    name: str, vault: str, version: str, client: str, tenant: str
) -> None:
    key = KeyIdentifier(VaultHost(f"{vault}.vault.azure.net"), name, KeyVersion(version))
    case = replace(CASE, key=key, client_id=client, tenant=TenantId(tenant))
    for told in every_remedy(case):
        assert all(line.isprintable() for line in (told.text, told.portal or ""))
    called, usual = calls_of(every_remedy(case)), calls_of(every_remedy(CASE))
    assert [options(call) for call in called] == [options(call) for call in usual]
    values = {word if not word.startswith("--") else word.partition("=")[2] for call in called for word in call}
    assert {name, vault, version, client, tenant, f"properties.tenantId={tenant}"} <= values


def every_remedy(case: Case) -> list[Remedy]:
    made = [remedy(reason, case) for reason in _REASONS] + [remedy_of_warning(kind, case) for kind in _WARNINGS]
    return [*made, tagging(case, ACCOUNT)]


def calls_of(remedies: list[Remedy]) -> list[list[str]]:
    """What a real shell calls when all commands are pasted into it: the arguments of each call."""
    commands = "\n".join(command for told in remedies for command in told.commands)
    # Nowhere and with no programs, so that a quote too few does no harm.
    with TemporaryDirectory() as nowhere:
        script = SHELL.format(commands=commands).encode()
        ran = subprocess.run(["/bin/sh"], input=script, capture_output=True, check=True, cwd=nowhere, env={"PATH": ""})
    words = iter(ran.stdout.decode().split("\0")[:-1])
    return [[next(words) for _ in range(int(count))] for count in words]


def options(call: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in call if word.startswith("-")]


def test_a_key_names_its_account_by_a_tag() -> None:
    made = tagging(replace(CASE, key=KEY.unpinned), ACCOUNT)
    (command,) = made.commands
    assert command == (
        "az keyvault key set-attributes --vault-name contoso --name media --tags "
        f"'byokd-account=/subscriptions/{ACCOUNT.subscription}/resourcegroups/rg(1)"
        "/providers/microsoft.media/mediaservices/contoso'"
    )
    in_china = replace(CASE, key=replace(KEY, host=VaultHost("contoso.vault.azure.cn")))
    assert tagging(in_china, ACCOUNT).commands[0] == "az cloud set --name AzureChinaCloud"


def test_the_address_that_the_vault_saw_stands_in_the_command() -> None:
    made = remedy(Reason.NETWORK_BLOCKED, replace(CASE, address="203.0.113.7"))
    assert made.commands == ("az keyvault network-rule add --name contoso --ip-address 203.0.113.7",)


@pytest.mark.parametrize("code", ["ForbiddenByRbac"])
def test_where_the_refusal_names_roles_only_the_role_is_told(code: str) -> None:
    made = remedy(Reason.ACCESS_DENIED, replace(CASE, inner_code=code))
    (command,) = made.commands
    assert command.startswith("az role assignment create ")
    assert "policies" not in made.text
    assert "Access control (IAM)" in str(made.portal)


@pytest.mark.parametrize("code", ["AccessDenied", "ForbiddenByPolicy"])
def test_where_the_refusal_names_policies_only_the_policy_is_told(code: str) -> None:
    made = remedy(Reason.ACCESS_DENIED, replace(CASE, inner_code=code))
    assert made.commands == (
        "az keyvault set-policy --name contoso --spn c11e --key-permissions get wrapKey unwrapKey",
    )
    assert "role" not in made.text
    assert "Access policies" in str(made.portal)


@pytest.mark.parametrize("code", [None, "KeyDisabled", "SomethingNew"])
def test_where_the_refusal_does_not_tell_both_are_told(code: str | None) -> None:
    role, policy = remedy(Reason.ACCESS_DENIED, replace(CASE, inner_code=code)).commands
    assert role.startswith("az role assignment create ")
    assert policy.startswith("az keyvault set-policy ")


def test_a_permission_to_see_new_versions_is_given_the_same_way() -> None:
    (command,) = remedy_of_warning(
        WarningKind.NEW_VERSIONS_UNSEEN, replace(CASE, inner_code="ForbiddenByPolicy")
    ).commands
    assert command.startswith("az keyvault set-policy ")


def test_a_version_that_was_purged_is_neither_enabled_nor_recovered() -> None:
    made = remedy(Reason.KEY_VERSION_NOT_FOUND, CASE)
    assert not [command for command in made.commands if "--enabled" in command or "recover" in command]
    assert not [command for command in made.commands if "purge" in command or "delete" in command], "nothing is lost"
    assert f"version {VERSION} of the key media in the vault contoso is not there any more" in made.text
    assert "the present one has to be deleted and purged before, and what that one wraps goes with it" in made.text
    assert "Without a backup what the version wrapped is gone" in made.text
