"""Checks with identities of every kind, over TLS, both ways to ask a vault."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from azure.keyvault.keys._shared import http_challenge_cache

from byokd.adapters.keyvault.service import AzureKeyService, lean_service, sdk_service
from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.emulator.world import HOME_TENANT
from byokd.ports import KeyTarget
from byokd.settings import VaultSettings
from identity.platform import APPLICATIONS, CONTOSO, FABRIKAM, Platform
from identity.test_trouble import DENIALS, Happening, says

VAULTS = VaultSettings(connections=4)
KEY = "customer-key"
PRINCIPALS = {"machine": "system", "user": "user"}


@dataclass(frozen=True, slots=True)
class Site:
    platform: Platform
    service: AzureKeyService

    async def key_of(self, identity: str, tenant: str) -> KeyTarget:
        """A key in a vault of that tenant, granted to the identity."""
        name, control = f"v{tenant[:8]}", self.platform.emulator.control
        if name not in self.platform.emulator.world.vaults:
            await control.create_vault(name, tenant=tenant)
            await control.create_key(name, KEY)
        await control.grant(name, PRINCIPALS.get(identity, identity))
        key = KeyIdentifier.parse(f"https://{name}.vault.azure.net/keys/{KEY}", allowed_suffixes=["vault.azure.net"])
        target = KeyTarget(IdentityName(identity), TenantId(tenant), key)
        facts = await self.service.get(target)
        assert isinstance(facts, KeyFacts), facts
        return KeyTarget(target.identity, target.tenant, key.at(facts.version))


@pytest.fixture(params=[lean_service, sdk_service], ids=["lean", "sdk"])
async def site(platform: Platform, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    http_challenge_cache.clear()
    yield Site(platform, request.param(platform.outbound.kept, platform.credentials, vaults=VAULTS))
    http_challenge_cache.clear()


@pytest.mark.parametrize("name", ["machine", "user", *APPLICATIONS])
async def test_checks_go_on_while_tokens_expire(site: Site, name: str) -> None:
    await site.platform.emulator.control.set_token_seconds(application=2, identity=2)
    target = await site.key_of(name, CONTOSO if name in APPLICATIONS else HOME_TENANT)
    wrapped = await site.service.wrap(target, b"probe")
    assert isinstance(wrapped, bytes), wrapped
    issued, endpoint = site.platform.asked, "entra" if name in APPLICATIONS else "managed-identity"
    before = issued(endpoint)
    while issued(endpoint) < before + 2:
        assert await site.service.unwrap(target, wrapped) == b"probe"
    refused = site.platform.emulator.world.calls.total(target=target.key.host.partition(".")[0], status=401)
    assert refused <= 1, "the challenge before the first token, and no token was ever shown too late"


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("number", DENIALS)
async def test_what_a_tenant_withdraws_is_seen_by_a_check_of_its_key_alone(site: Site, name: str, number: int) -> None:
    ours, theirs = await site.key_of(name, CONTOSO), await site.key_of(name, FABRIKAM)
    await DENIALS[number](site.platform, name)
    site.platform.credentials._slots.clear()
    denied = await site.service.get(ours)
    assert isinstance(denied, Refused)
    assert (denied.kind, denied.evidence.code) == (RefusalKind.CONSENT_WITHDRAWN, f"AADSTS{number}")
    other = await site.service.get(theirs)
    if number == 700016:  # deleted at home, it is deleted everywhere
        assert isinstance(other, Refused)
    else:
        assert isinstance(other, KeyFacts)


@pytest.mark.parametrize(
    ("name", "happens", "code"),
    [
        ("certified", says(700027), "AADSTS700027"),
        ("pods", says(700213), "AADSTS700213"),
        ("pods", says(70021), "AADSTS70021"),
        ("certified", says(7000215), "AADSTS7000215"),
        (
            "vendor",
            lambda platform, _: platform.emulator.control.detach_identity("user"),
            "CredentialUnavailableError.via-user",
        ),
    ],
)
async def test_trouble_of_our_own_leaves_it_unverified(site: Site, name: str, happens: Happening, code: str) -> None:
    target = await site.key_of(name, CONTOSO)
    await happens(site.platform, name)
    site.platform.credentials._slots.clear()
    seen = await site.service.get(target)
    assert isinstance(seen, NoAnswer)
    assert (seen.reason, seen.evidence.code) == (Reason.TOKEN_UNAVAILABLE, code)
