import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.adapters.keyvault.challenge import Challenge, resource_of

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
LOGIN = f"https://login.microsoftonline.com/{TENANT}"
VAULT = "https://vault.azure.net"


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
        (f'Bearer authorization="{LOGIN}", authorization="https://x/{TENANT.replace("7", "8")}"', None, None, None),
        (f'Bearer resource="{VAULT}", resource="https://evil.example"', None, None, None),
        ('Bearer authorization="http://["', None, None, None),
    ],
)
def test_what_a_challenge_says(header: str, tenant: str | None, resource: str | None, claims: str | None) -> None:
    assert Challenge.parse(header) == Challenge(tenant, resource, claims)


@pytest.mark.parametrize("header", ["", " ", "Bearer", "Basic realm=x", f'PoP authorization="{LOGIN}"'])
def test_what_is_none(header: str) -> None:
    assert Challenge.parse(header) in (None, Challenge(None, None, None))


@settings(deadline=None)
@given(st.text(max_size=200) | st.builds(lambda rest: f"Bearer {rest}", st.text(max_size=200)))
def test_no_header_raises(header: str) -> None:
    parsed = Challenge.parse(header)
    assert parsed is None or parsed.tenant is None or len(parsed.tenant) == 36


def test_a_token_is_for_the_cloud_of_the_vault() -> None:
    assert resource_of("contoso.vault.azure.net") == VAULT
    assert resource_of("contoso.vault.usgovcloudapi.net") == "https://vault.usgovcloudapi.net"
