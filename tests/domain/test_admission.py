"""Which keys are taken for which accounts: whose they are comes first, and what nobody tells is not refused."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from byokd.domain.admission import RULES, Candidate, objection, unfit, ungranted
from byokd.domain.answers import KeyFacts
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.domain.properties import VaultProperties
from byokd.domain.remedies import Case
from domain.scenes import NOW, facts

ACCOUNT = AccountId("0f8fad5b-d9cb-469f-a165-70867728950e", "rg", "contoso")
KEY = KeyIdentifier(VaultHost("contoso.vault.azure.net"), "media")
TENANT = TenantId("11111111-2222-3333-4444-555555555555")
CASE = Case(KEY, TENANT, IdentityName("platform"), "c11e", None, None, datetime(2026, 3, 1, 12, tzinfo=UTC))
GOOD = replace(facts(), recovery_level="Recoverable")
NAMED = replace(GOOD, accounts=frozenset({ACCOUNT}))


def candidate(
    told: KeyFacts | None = GOOD,
    *,
    must_name: bool = False,
    must_last: bool = True,
    vault: VaultProperties | None = None,
) -> Candidate:
    return Candidate(ACCOUNT, "westeurope", told, CASE, must_name=must_name, must_last=must_last, vault=vault)


def vault(
    region: str | None = None, *, soft_delete: bool | None = None, purge_protection: bool | None = None
) -> VaultProperties:
    return VaultProperties(region, soft_delete, purge_protection)


TAKEN = {
    "as it should be": candidate(),
    "named": candidate(NAMED, must_name=True),
    "who keeps what is deleted is not told": candidate(replace(GOOD, recovery_level=None)),
    "purgeable, where that is not asked": candidate(replace(GOOD, recovery_level="Purgeable"), must_last=False),
    "not protected, where that is not asked": candidate(vault=vault(purge_protection=False), must_last=False),
    "disabled, for a watch may be on another version": candidate(replace(GOOD, enabled=False)),
    "same region": candidate(vault=vault("westeurope", soft_delete=True, purge_protection=True)),
    "nothing told": candidate(vault=vault()),
}


@pytest.mark.parametrize("case", TAKEN)
def test_taken(case: str) -> None:
    assert objection(TAKEN[case]) is None


REFUSED = {
    "unnamed": (candidate(must_name=True), "no tag of it says"),
    "names another": (
        candidate(replace(GOOD, accounts=frozenset({replace(ACCOUNT, name="fabrikam")})), must_name=True),
        "no tag of it says",
    ),
    "absent": (candidate(None), "there is no such key or version"),
    "absent, or unnamed": (candidate(None, must_name=True), "no tag of it says"),
    "of another type": (candidate(replace(GOOD, key_type="EC")), "KeyTypeUnsupported: the key is of type 'EC'"),
    "too small": (candidate(replace(GOOD, bits=1024)), "KeyTypeUnsupported: the key has 1024 bits"),
    "purgeable": (candidate(replace(GOOD, recovery_level="Recoverable+Purgeable")), "soft-delete and purge protection"),
    "not soft-deleted": (candidate(vault=vault(soft_delete=False)), "soft-delete and purge protection"),
    "not protected": (candidate(vault=vault(purge_protection=False)), "soft-delete and purge protection"),
    "elsewhere": (candidate(vault=vault("eastus")), "the vault is in the region eastus, the account in westeurope"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_what_to_do(case: str) -> None:
    given, said = REFUSED[case]
    found = objection(given)
    assert found is not None
    assert said in found.message
    assert found.hint


def test_of_an_unnamed_key_nothing_else_is_said_whatever_else_is_wrong_with_it() -> None:
    worst = replace(GOOD, key_type="EC", bits=1, enabled=False, recovery_level="Purgeable")
    wrong = vault("eastus", soft_delete=False, purge_protection=False)
    assert objection(candidate(worst, must_name=True, vault=wrong)) == objection(candidate(None, must_name=True))


def test_each_rule_objects_to_something_of_its_own() -> None:
    for rule in RULES:
        assert [case for case, (given, _) in REFUSED.items() if rule(given)], rule
        assert rule(candidate()) is None


def test_what_is_to_be_proved_has_to_be_fit() -> None:
    assert unfit(GOOD, NOW) is None
    found = unfit(replace(GOOD, enabled=False), NOW)
    assert found is not None
    assert (found.message, bool(found.hint)) == ("the version is disabled", True)


@pytest.mark.parametrize(
    ("missing", "untold", "said"),
    [
        (("get",), (), "the permission get"),
        (("get", "unwrapKey"), (), "the permission get and unwrapKey"),
        (("get", "wrapKey", "unwrapKey"), (), "the permission get, wrapKey and unwrapKey"),
        (("get",), ("wrapKey", "unwrapKey"), "get; whether wrapKey and unwrapKey too cannot be told without it"),
    ],
)
def test_missing_permissions_are_named(missing: tuple[str, ...], untold: tuple[str, ...], said: str) -> None:
    found = ungranted(CASE, missing=missing, untold=untold)
    assert found.message.endswith(said)
    assert found.message.startswith("the vault refuses the identity platform")
    assert len(found.commands) == 2
