import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.adapters.keyvault.challenge import MOST_CLAIMS_CHARS, Challenge, resource_of
from byokd.domain.identifiers import VaultHost

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
LOGIN = f"https://login.microsoftonline.com/{TENANT}"
VAULT = "https://vault.azure.net"
HOST = VaultHost("contoso.vault.azure.net")


@pytest.mark.parametrize(
    ("header", "tenant", "resource", "claims"),
    [
        (f'Bearer authorization="{LOGIN}", resource="{VAULT}"', TENANT, VAULT, None),
        (f'bearer authorization="{LOGIN.upper()}/", resource="{VAULT}/"', TENANT, VAULT, None),
        (f"Bearer authorization={LOGIN}, resource={VAULT}", TENANT, VAULT, None),
        (f'Bearer authorization_uri="{LOGIN}/oauth2", scope="{VAULT}/.default"', TENANT, VAULT, None),
        (
            f'Bearer authorization="{LOGIN}", error="insufficient_claims", claims="eyJhIjoxfQ=="',
            TENANT,
            None,
            '{"a":1}',
        ),
        (f'Bearer authorization="{LOGIN}", claims="not base64!"', TENANT, None, None),
        ('Bearer authorization="https://login.microsoftonline.com/common"', None, None, None),
        (
            f'Bearer authorization="{LOGIN}", authorization="https://login.windows.net/{TENANT.replace("7", "8")}"',
            None,
            None,
            None,
        ),
        (f'Bearer resource="{VAULT}", resource="https://evil.example"', None, None, None),
    ],
)
def test_what_a_challenge_says(header: str, tenant: str | None, resource: str | None, claims: str | None) -> None:
    assert Challenge.parse(header, host=HOST) == Challenge(tenant, resource, claims)


@pytest.mark.parametrize(
    ("host", "authority", "fits"),
    [
        ("contoso.vault.azure.net", LOGIN, True),
        ("contoso.vault.azure.net", LOGIN.upper(), True),
        ("contoso.vault.azure.net", f"https://login.windows.net/{TENANT}", True),
        ("contoso.vault.azure.net", f"https://login.microsoftonline.us/{TENANT}", False),
        ("contoso.vault.usgovcloudapi.net", f"https://login.microsoftonline.us/{TENANT}", True),
        ("contoso.vault.usgovcloudapi.net", LOGIN, False),
        ("contoso.vault.azure.cn", f"https://login.chinacloudapi.cn/{TENANT}", True),
        ("contoso.vault.azure.cn", LOGIN, False),
        ("contoso.vault.example", LOGIN, True),
        ("contoso.vault.example", f"https://login.example/{TENANT}", False),
        ("contoso.vault.azure.net", f"http://login.microsoftonline.com/{TENANT}", False),
        ("contoso.vault.azure.net", f"https://login.microsoftonline.com:443/{TENANT}", False),
        ("contoso.vault.azure.net", f"https://login.microsoftonline.com@evil.example/{TENANT}", False),
        ("contoso.vault.azure.net", f"https://login.microsoftonline.com.evil.example/{TENANT}", False),
        ("contoso.vault.azure.net", f"https://evil.example/{TENANT}", False),
        ("contoso.vault.azure.net", f"login.microsoftonline.com/{TENANT}", False),
        ("contoso.vault.azure.net", "http://[", False),
    ],
)
def test_only_entra_of_the_vaults_own_cloud_may_be_named(host: str, authority: str, fits: bool) -> None:  # noqa: FBT001
    challenge = Challenge.parse(f'Bearer authorization="{authority}", resource="{VAULT}"', host=VaultHost(host))
    assert challenge.of_entra is fits


def test_every_authority_that_is_named_must_fit() -> None:
    beside = f'Bearer authorization="{LOGIN}", authorization_uri="https://evil.example/{TENANT}"'
    assert not Challenge.parse(beside, host=HOST).of_entra


@pytest.mark.parametrize("claims", ["[]", "1", "{", "[" * 1000, json.dumps({"a": "x" * MOST_CLAIMS_CHARS})])
def test_claims_that_are_no_short_json_object_are_not_passed_on(claims: str) -> None:
    encoded = base64.b64encode(claims.encode()).decode()
    assert Challenge.parse(f'Bearer authorization="{LOGIN}", claims="{encoded}"', host=HOST).claims is None


@pytest.mark.parametrize("rest", ["a" * 8000, "a =" * 2700, "a=" + " " * 8000, 'a="' * 2700, "a " * 4000, "=" * 8000])
def test_reading_a_long_header_takes_no_time(rest: str) -> None:
    began = time.process_time()
    Challenge.parse(f"Bearer {rest}", host=HOST)
    assert time.process_time() - began < 0.1, "it took half a second, and all vaults share the loop"


@pytest.mark.parametrize("header", ["", " ", "Bearer", "Basic realm=x", f'PoP authorization="{LOGIN}"'])
def test_what_is_none(header: str) -> None:
    assert Challenge.parse(header, host=HOST) in (None, Challenge(None, None, None))


@settings(deadline=None)
@given(st.text(max_size=200) | st.builds(lambda rest: f"Bearer {rest}", st.text(max_size=200)))
def test_no_header_raises(header: str) -> None:
    parsed = Challenge.parse(header, host=HOST)
    assert parsed is None or parsed.tenant is None or len(parsed.tenant) == 36


def test_a_token_is_for_the_cloud_of_the_vault() -> None:
    assert resource_of("contoso.vault.azure.net") == VAULT
    assert resource_of("contoso.vault.usgovcloudapi.net") == "https://vault.usgovcloudapi.net"
