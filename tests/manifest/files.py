"""One accounts file in all its forms, and how it is read."""

import pytest

from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.runtime.manifest import Format, ManifestInvalidError, read_manifest

SUBSCRIPTION = "0f8fad5b-d9cb-469f-a165-70867728950e"
BASE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Media/mediaservices"
TENANT = "00000000-0000-0000-0000-000000000001"
KEY = "https://contoso.vault.azure.net/keys/customer-key"

CONTOSO = AccountSpec(
    AccountId(SUBSCRIPTION, "rg", "contoso"),
    TenantId(TENANT),
    "westeurope",
    CustomerKey(IdentityName("platform"), KeyIdentifier(VaultHost("contoso.vault.azure.net"), "customer-key")),
)
FABRIKAM = AccountSpec(AccountId(SUBSCRIPTION, "rg", "fabrikam"), TenantId(TENANT), "westus2", None)

YAML = f"""\
# the customers
accounts:
  - id: {BASE}/contoso
    tenant: {TENANT}
    location: westeurope
    encryption:
      type: CustomerKey
      identity: platform
      keyIdentifier: {KEY}
  - id: {BASE}/fabrikam
    tenant: {TENANT}
    location: westus2
    encryption: {{type: SystemKey}}
"""
TOML = f"""\
# the customers
[[accounts]]
id = "{BASE}/contoso"
tenant = "{TENANT}"
location = "westeurope"
[accounts.encryption]
type = "CustomerKey"
identity = "platform"
keyIdentifier = "{KEY}"
[[accounts]]
id = "{BASE}/fabrikam"
tenant = '{TENANT}'
location = "westus2"
encryption = {{ type = "SystemKey" }}
"""
TOML_INLINE = f"""\
accounts = [
  {{ id = "{BASE}/contoso", tenant = "{TENANT}", location = "westeurope", encryption = {{
    type = "CustomerKey", identity = "platform", keyIdentifier = "{KEY}" }} }},
  {{ id = "{BASE}/fabrikam", tenant = "{TENANT}", location = "westus2", encryption = {{
    type = "SystemKey" }} }},
]
""".replace("{\n    type", "{ type")
TOML_DOTTED = f"""\
[[ "accounts" ]]
id = "{BASE}/contoso"
tenant = "{TENANT}"
location = "westeurope"
encryption.type = "CustomerKey"
encryption . "identity" = "platform"
'encryption'.keyIdentifier = "{KEY}"
[[accounts]]
"id" = "{BASE}/fabrikam"
tenant = "{TENANT}"
location = "westus2"
encryption.type = "SystemKey"
"""
YAML_MERGED = f"""\
accounts:
  - &first
    id: {BASE}/contoso
    tenant: &tenant {TENANT}
    location: westeurope
    encryption: &key {{type: CustomerKey, identity: platform, keyIdentifier: "{KEY}"}}
  - <<: *first
    id: {BASE}/fabrikam
    location: westus2
    encryption: {{type: SystemKey}}
"""


def read(text: str, file_format: Format = "yaml") -> tuple[AccountSpec, ...]:
    return read_manifest(
        text, file_format, allowed_suffixes=("vault.azure.net",), identities=frozenset({"platform", "other"})
    )


def mistakes(text: str, file_format: Format = "yaml") -> list[tuple[int, str, str]]:
    with pytest.raises(ManifestInvalidError) as caught:
        read(text, file_format)
    return [(mistake.line, mistake.place, mistake.message) for mistake in caught.value.mistakes]


def mistake(text: str, file_format: Format = "yaml") -> tuple[int, str, str]:
    (only,) = mistakes(text, file_format)
    return only


TOML_LINES = f"""\
# [[accounts]]
[[accounts]] # [[accounts]]
id = '''
[[accounts]]
id = "x"
'''
tenant = \"\"\"
\\\"\"\" [[accounts]] = \\\\\"\"\"\"\"
location = "a#[[b]]\\"="
[accounts.encryption]
type = "SystemKey"
[accounts.encryption.more]
deep = [ 1.5, 1979-05-27 07:32:00, {{ x = [ "a]", '}}' ] }}, # ]
  "y" ]
[[accounts]]
id = "{BASE}/contoso"
tenant = "{TENANT}"
location = "B"
"""
