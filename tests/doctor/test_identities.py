"""What `byokd doctor` says of identities of every kind: each defect plainly, and whose it is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.identity.trial import CredentialsTrial
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.emulator.principals import Credentials as Proofs
from byokd.ports.examining import Instruments, StoreLook, WatchedVault
from byokd.runtime.examinations.identities import MOST_UNUSED, examine_identities
from byokd.runtime.findings import Finding, Grade
from byokd.runtime.identity_words import hint_of
from byokd.settings import Settings
from identity.platform import APPLICATIONS, CONTOSO, FABRIKAM, Platform, running_platform
from identity.proofs import own_certificate, service_account_token

Spoil = Callable[[Platform], Awaitable[object] | object]
HOST = VaultHost("contoso.vault.azure.net")


@pytest.fixture
async def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    async with running_platform(tmp_path, monkeypatch) as running:
        yield running


def used(*names: str, tenants: tuple[TenantId, ...] = (CONTOSO, FABRIKAM)) -> StoreLook:
    using = {IdentityName(name): tuple(WatchedVault(HOST, tenant) for tenant in tenants) for name in names}
    return StoreLook("place", "0001", "0001", None, identities=frozenset(using), using=using)


async def findings(
    platform: Platform,
    look: StoreLook,
    only: tuple[str, ...] = (),
    *,
    shared: bool = True,
    **changes: Mapping[str, object],
) -> list[Finding]:
    """Examine; `only` these are configured, by default those that are used and what they go by, or all."""
    shown = {str(platform.identities[name].via) for name in look.identities} - {"None"}
    names = only or {*look.identities, *shown}
    identities = {
        name: one.model_copy(update={"shared": shared, **changes.get(name, {})})
        for name, one in platform.identities.items()
        if not names or name in names
    }
    settings = Settings(identities=identities)
    credentials = Credentials(identities, platform.outbound.tokens, clock=platform.clock)
    trial = CredentialsTrial(credentials, settings, platform.emulator.imds_environment())
    instruments = cast("Instruments", SimpleNamespace(clock=platform.clock, tokens=trial))
    try:
        suffixes = settings.vaults.allowed_suffixes
        return list(await examine_identities(instruments, look, configured=identities, suffixes=suffixes))
    finally:
        await credentials.close()


def about(name: str, found: list[Finding]) -> list[Finding]:
    return [one for one in found if name in one.found]


async def test_a_token_is_tried_where_the_accounts_are(platform: Platform) -> None:
    (applications, user) = await findings(platform, used(*APPLICATIONS))
    assert user.found == f"user: a token was had from {platform.emulator.http_url}"
    assert applications.found == "certified, pods, vendor: a token was had from https://login.microsoftonline.com"
    assert platform.asked() == 6
    (machine,) = await findings(platform, used("machine"))
    assert machine.found == f"machine: a token was had from {platform.emulator.http_url}"


async def test_without_accounts_everything_but_the_tenants_is_tried(platform: Platform) -> None:
    await platform.emulator.control.change_application("pods", consent=str(platform.identities["pods"].tenant))
    found = await findings(platform, StoreLook("place", "0001", "0001", None))
    assert {one.grade for one in found} == {Grade.OK}
    assert found[-1].found.startswith("certified, vendor: no token was tried, for neither an account nor")
    assert platform.asked() == 1, "workload identity tells its tenant"


async def test_an_application_whose_tenant_is_told_is_tried_there(platform: Platform) -> None:
    home = {"tenant": str(CONTOSO)}
    only = ("certified", "vendor", "user")
    nobody = StoreLook("place", "0001", "0001", None)
    applications, _ = await findings(platform, nobody, only=only, certified=home, vendor=home)
    assert applications.found == "certified, vendor: a token was had from https://login.microsoftonline.com"
    wrong = {"tenant": str(CONTOSO), "client_id": "0f8fad5b-d9cb-469f-a165-70867728950e"}
    found = await findings(platform, nobody, only=only, certified=wrong, vendor=home)
    assert [(one.grade, one.found.rpartition(" ")[2]) for one in about("no token", found)] == [("bad", "AADSTS700016")]


async def test_an_identity_that_no_account_uses_is_tried_too_and_breaks_nobody_yet(platform: Platform) -> None:
    await platform.emulator.control.detach_identity("user")
    found = await findings(platform, used("machine"), only=("machine", "user", "certified"))
    (warned, machine, untried) = found
    assert (warned.grade, warned.found.rpartition("; ")[2]) == (Grade.WARN, "no account uses it")
    assert warned.found.startswith("no token for user from http://127.0.0.1:")
    assert machine.found.startswith("machine: a token was had")
    assert untried.found.startswith("certified: no token was tried")


async def test_of_very_many_that_no_account_uses_some_are_tried_and_the_others_counted(platform: Platform) -> None:
    names = [f"unused{number:03d}" for number in range(MOST_UNUSED + 7)]
    many = dict.fromkeys(names, platform.identities["user"])
    platform.identities = {"machine": platform.identities["machine"], **many}
    found = await findings(platform, used("machine"), only=("machine", *names))
    assert "7 more that no account uses were not tried" in [one.found for one in found]
    assert len(about("unused049", found)) == 1
    assert about("unused050", found) == []


async def test_an_authority_of_another_cloud_than_the_vaults_is_questioned(platform: Platform) -> None:
    there = {"authority": "login.microsoftonline.us"}
    found = await findings(platform, used("certified"), certified=there)
    (warned,) = about("asks login.microsoftonline.us, but vaults of its accounts", found)
    assert (warned.grade, warned.found.rpartition(": ")[2]) == (Grade.WARN, "vault.azure.net")
    assert about("another cloud", await findings(platform, used("certified"))) == []
    assert about("another cloud", await findings(platform, used("machine"))) == []
    government = WatchedVault(VaultHost("contoso.vault.usgovcloudapi.net"), CONTOSO)
    look = replace(used("machine"), using={IdentityName("machine"): (government,)})
    assert about("another cloud", await findings(platform, look)) == [], "its endpoint is that of its own cloud"


@dataclass(frozen=True, slots=True)
class Defect:
    name: str
    spoil: Spoil
    grade: Grade
    found: str
    hint: str


def renew(platform: Platform, **proofs: Any) -> None:  # noqa: ANN401 - of three kinds
    own_certificate(platform.certificate, **proofs)


async def ended(platform: Platform) -> None:
    made = own_certificate(platform.certificate, ends_in=timedelta(hours=-1))
    platform.emulator.world.principal("certified").credentials = Proofs(certificates=(made.public,))


async def ends(platform: Platform) -> None:
    made = own_certificate(platform.certificate, ends_in=timedelta(days=3))
    platform.emulator.world.principal("certified").credentials = Proofs(certificates=(made.public,))


async def thrown_out(platform: Platform) -> None:
    for tenant in (CONTOSO, FABRIKAM):
        await platform.emulator.control.change_application("vendor", withdraw=tenant)


def subject(platform: Platform) -> None:
    vendor = platform.emulator.world.principal("vendor")
    (trusted,) = vendor.credentials.federations
    vendor.credentials = Proofs(federations=(replace(trusted, subject="somebody else"),))


DEFECTS: Mapping[str, Defect] = {
    "the machine lost the identity": Defect(
        "user",
        lambda platform: platform.emulator.control.detach_identity("user"),
        Grade.BAD,
        "no token for user from http://127.0.0.1:",
        "see that this machine has the managed identity",
    ),
    "the machine lost what a cross-tenant application shows": Defect(
        "vendor",
        lambda platform: platform.emulator.control.detach_identity("user"),
        Grade.BAD,
        "no token for vendor from https://login.microsoftonline.com: CredentialUnavailableError.via-user",
        "no token of the managed identity user, which is shown in place of a secret: see that this machine has",
    ),
    "the federated credential is for another subject": Defect(
        "vendor", subject, Grade.BAD, "login.microsoftonline.com: AADSTS700213", "compare issuer, subject and audience"
    ),
    "all tenants threw the application out": Defect(
        "vendor", thrown_out, Grade.WARN, f"{CONTOSO} says AADSTS7000229", "see the application at home"
    ),
    "the certificate is another one": Defect(
        "certified", lambda platform: renew(platform, key=2), Grade.BAD, "AADSTS700027", "the certificate has expired"
    ),
    "the certificate has ended": Defect("certified", ended, Grade.BAD, "AADSTS700027", "the certificate has expired"),
    "the certificate's file is gone": Defect(
        "certified", lambda platform: platform.certificate.unlink(), Grade.BAD, ": FileNotFoundError", "check-config"
    ),
    "the certificate's file holds no key": Defect(
        "certified", lambda platform: platform.certificate.write_text("x"), Grade.BAD, ": ValueError", "check-config"
    ),
    "the federated token's file is gone": Defect(
        "pods", lambda platform: platform.token_file.unlink(), Grade.BAD, ": FileNotFoundError", "token_file"
    ),
    "the federated token has expired": Defect(
        "pods",
        lambda platform: platform.token_file.write_text(service_account_token(seconds=-600)),
        Grade.BAD,
        "AADSTS700024",
        "the federated token has expired",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
async def test_each_defect_is_named_plainly(platform: Platform, defect: Defect) -> None:
    done = defect.spoil(platform)
    if isinstance(done, Awaitable):
        await done
    found = [one for one in await findings(platform, used(defect.name)) if one.grade is not Grade.OK]
    found = [one for one in found if not one.found.endswith("no account uses it")]
    assert (found[0].grade, len(found)) == (defect.grade, 2 if "ended" in str(defect.spoil) else 1)
    assert defect.found in found[0].found
    assert defect.hint in str(found[0].hint)


@pytest.mark.parametrize("name", ["certified", "vendor"])
async def test_before_there_are_accounts_defects_of_this_machine_are_named_too(platform: Platform, name: str) -> None:
    platform.certificate.unlink()
    await platform.emulator.control.detach_identity("user")
    found = await findings(platform, StoreLook("place", "0001", "0001", None), only=(name, "user"))
    (bad,) = [one for one in found if f"no token for {name}" in one.found]
    assert bad.grade is Grade.BAD


async def test_one_tenant_that_threw_us_out_does_not_speak_for_all(platform: Platform) -> None:
    await platform.emulator.control.change_application("vendor", withdraw=CONTOSO)
    (found, _) = await findings(platform, used("vendor"))
    assert (found.grade, found.found.partition(":")[0]) == (Grade.OK, "vendor")


async def test_the_end_of_a_certificate_is_told_ahead(platform: Platform) -> None:
    await ends(platform)
    (soon, well) = await findings(platform, used("certified"))
    assert (soon.grade, well.grade) == (Grade.WARN, Grade.OK)
    assert soon.found.startswith("the certificate of certified ends on 20")


async def test_a_certificate_that_does_not_hold_yet_is_named(platform: Platform) -> None:
    made = own_certificate(platform.certificate, ends_in=timedelta(days=90), holds=timedelta(days=80))
    platform.emulator.world.principal("certified").credentials = Proofs(certificates=(made.public,))
    found = await findings(platform, used("certified"))
    assert [one.found[:36] for one in found if one.grade is Grade.BAD][-1] == "the certificate of certified begins "


async def test_a_certificate_that_no_account_uses_yet_is_looked_at_too(platform: Platform) -> None:
    renew(platform, ends_in=timedelta(hours=-1))
    ended, machine, _ = await findings(platform, used("machine"), only=("machine", "certified"))
    assert (ended.grade, machine.grade) == (Grade.BAD, Grade.OK)
    assert ended.found.startswith("the certificate of certified ended on 20")


async def test_an_identity_that_serves_several_tenants_without_being_shared_is_named(platform: Platform) -> None:
    (warned, *_) = await findings(platform, used("vendor"), shared=False)
    assert warned.grade is Grade.WARN
    assert warned.found.startswith("vendor is not shared, but serves customers of several tenants")
    one_tenant = await findings(platform, used("vendor", tenants=(CONTOSO,)), shared=False)
    assert {one.grade for one in one_tenant} == {Grade.OK}


@pytest.mark.parametrize("shared", [False, True])
async def test_one_managed_identity_under_two_names_is_found_out(platform: Platform, shared: bool) -> None:  # noqa: FBT001 - drawn
    look = used("machine", "user", "by-resource-id", tenants=(CONTOSO,))
    wrong = [one for one in await findings(platform, look, shared=shared) if one.grade is not Grade.OK]
    assert [one.found.partition(",")[0] for one in wrong] == (
        [] if shared else ["by-resource-id and user are one managed identity"]
    )


def test_every_code_has_a_hint() -> None:
    for code in (None, "Unheard-of", "AADSTS1", "AADSTS1.via-user"):
        assert "see the identity in the settings" in hint_of(code)
