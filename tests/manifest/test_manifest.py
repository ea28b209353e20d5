"""Accounts files: all of it is right, or every mistake is named with its line and nothing is given."""

from dataclasses import replace

import pytest

from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId, VaultHost
from byokd.runtime.manifest import MAX_CHARS, Format, ManifestInvalidError, read_manifest

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


@pytest.mark.parametrize(
    ("text", "file_format"),
    [
        (YAML, "yaml"),
        ("\ufeff" + YAML, "yaml"),
        (YAML.replace("\n", "\r\n"), "yaml"),
        (YAML_MERGED, "yaml"),
        (TOML, "toml"),
        ("\ufeff" + TOML, "toml"),
        (TOML.replace("\n", "\r\n"), "toml"),
        (TOML_INLINE, "toml"),
        (TOML_DOTTED, "toml"),
    ],
    ids=[
        "yaml",
        "yaml mark",
        "yaml crlf",
        "yaml merged",
        "toml",
        "toml mark",
        "toml crlf",
        "toml inline",
        "toml dotted",
    ],
)
def test_an_accounts_file_is_read(text: str, file_format: Format) -> None:
    assert read(text, file_format) == (CONTOSO, FABRIKAM)


def test_a_versioned_identifier_pins_the_key() -> None:
    (spec, _) = read(YAML.replace(KEY, f"{KEY}/{'0' * 32}"))
    assert spec.customer_key.key.version == "0" * 32


def test_a_file_may_list_no_account() -> None:
    assert read("accounts: []") == ()


# Each mistake is made in both forms of the same file; the lines are those of the YAML and of the TOML file.
MISTAKES = {
    "unknown identity": ("platform", "nobody", (8, 8), "encryption.identity", "no identity 'nobody' in the settings"),
    "vault": ("contoso.vault", "c1.vault", (9, 9), "encryption.keyIdentifier", "a vault name has 3 to 24 characters"),
    "host": ("contoso.vault", "contoso.example", (9, 9), "encryption.keyIdentifier", "not an allowed vault host"),
    "key path": ("keys/customer-key", "secrets/x", (9, 9), "encryption.keyIdentifier", "not the URL of a key"),
    "type": ("CustomerKey", "EcKey", (6, 6), "encryption", "type is neither SystemKey nor CustomerKey"),
    "location": ("westeurope", "West-Europe", (5, 5), "location", "is not a location"),
    "account id": ("mediaservices/contoso", "mediaservices/x", (3, 3), "id", "not the ARM id of an account"),
    "unknown field": ("location", "place", (5, 5), "place", "there is no such field"),
}


@pytest.mark.parametrize("written", ["West Europe", "westeurope", "WestEurope", " west  europe "])
def test_a_location_may_be_written_as_the_portal_shows_it(written: str) -> None:
    (first, *_) = read(YAML.replace("westeurope", written, 1))
    assert first.location == "westeurope"


@pytest.mark.parametrize("kind", MISTAKES)
@pytest.mark.parametrize(("text", "file_format"), [(YAML, "yaml"), (TOML, "toml")])
def test_a_mistake_is_named_with_its_line_and_place(kind: str, text: str, file_format: Format) -> None:
    right, wrong, lines, place, message = MISTAKES[kind]
    line = lines[0] if file_format == "yaml" else lines[1]
    found = mistakes(text.replace(right, wrong, 1), file_format)
    assert any((at, where) == (line, f"accounts[0].{place}") and message in what for at, where, what in found), found


@pytest.mark.parametrize(("text", "file_format"), [(YAML, "yaml"), (TOML, "toml")])
def test_every_mistake_is_named_at_once_in_the_order_of_lines(text: str, file_format: Format) -> None:
    wrong = text.replace("identity", "identify").replace("westus2", "West-US").replace(TENANT, "contoso", 1)
    wrong = wrong.replace("vault.azure.net", "example.com")
    found = mistakes(wrong, file_format)
    assert [place for _, place, _ in found] == [
        "accounts[0].tenant",
        "accounts[0].encryption.identity",
        "accounts[0].encryption.identify",
        "accounts[0].encryption.keyIdentifier",
        "accounts[1].location",
    ]
    assert [line for line, _, _ in found] == [4, 6, 8, 9, 12 if file_format == "yaml" else 13]


@pytest.mark.parametrize(("text", "file_format"), [(YAML, "yaml"), (TOML, "toml")])
@pytest.mark.parametrize("name", ["fabrikam", "Fabrikam", "FABRIKAM"])
def test_an_account_that_stands_there_twice_is_named_even_beside_other_mistakes(
    text: str, file_format: Format, name: str
) -> None:
    wrong = text.replace("mediaservices/contoso", f"mediaservices/{name}").replace("westeurope", "W")
    lines = [5, 10 if file_format == "yaml" else 11]
    found = mistakes(wrong, file_format)
    assert [line for line, _, _ in found] == lines
    assert found[1][1:] == ("accounts[1].id", "the account stands in this file twice")


def test_the_system_key_takes_no_key() -> None:
    wrong = YAML.replace("{type: SystemKey}", "{type: SystemKey, keyIdentifier: platform}")
    line, place, message = mistake(wrong)
    assert (line, place) == (13, "accounts[1].encryption.keyIdentifier")
    assert "does not belong to type SystemKey" in message


def test_an_account_has_an_identity_before_it_has_a_key() -> None:
    text = YAML.replace("{type: SystemKey}", "{type: SystemKey, identity: platform}")
    assert read(text) == (CONTOSO, replace(FABRIKAM, attached=IdentityName("platform")))
    line, place, message = mistake(text.replace("SystemKey, identity: platform", "SystemKey, identity: nobody"))
    assert (line, place) == (13, "accounts[1].encryption.identity")
    assert "there is no identity 'nobody'" in message


@pytest.mark.parametrize("field", ["keyIdentifier", "identity"])
def test_a_customer_key_needs_all_its_fields(field: str) -> None:
    wrong = "".join(line for line in YAML.splitlines(keepends=True) if f" {field}:" not in line)
    assert mistake(wrong) == (6, f"accounts[0].encryption.{field}", "is missing: type CustomerKey needs it")


@pytest.mark.parametrize("field", ["id", "tenant", "location"])
@pytest.mark.parametrize(("text", "file_format", "line"), [(YAML, "yaml", 3), (TOML, "toml", 2)])
def test_a_missing_field_is_named_where_its_account_begins(
    field: str, text: str, file_format: Format, line: int
) -> None:
    start = text.index(f"{field}:" if file_format == "yaml" else f"{field} =")
    wrong = text[:start] + ("x: x" if file_format == "yaml" else 'x = "x"') + text[text.index("\n", start) :]
    found = mistakes(wrong, file_format)
    assert (line, f"accounts[0].{field}", "is missing") in found
    assert len(found) == 2


WRONG_TYPES = ["1", "1.5", "true", "2026-11-05", "[]", "{}", "[a, b]", "0x10", "~", ".nan"]


@pytest.mark.parametrize("value", WRONG_TYPES)
@pytest.mark.parametrize("field", ["id", "tenant", "location"])
def test_a_value_of_another_type_is_refused_at_its_line(field: str, value: str) -> None:
    lines = YAML.splitlines()
    number = next(number for number, line in enumerate(lines) if f"{field}:" in line)
    lines[number] = lines[number][: lines[number].index(":") + 1] + " " + value
    found = mistakes("\n".join(lines))
    assert (number + 1, f"accounts[0].{field}") in [(line, place) for line, place, _ in found]


@pytest.mark.parametrize("value", ["1", "1.5", "true", "2026-11-05", "[]", "{}", '["a"]', "nan", "07:32:00"])
def test_toml_values_of_another_type_are_refused_at_their_line(value: str) -> None:
    assert mistake(TOML.replace('"westeurope"', value), "toml")[:2] == (5, "accounts[0].location")
    assert mistake(TOML.replace('{ type = "SystemKey" }', value), "toml")[:2] == (14, "accounts[1].encryption")


@pytest.mark.parametrize("value", ["5", "text", "[]", "{}", "~"])
def test_encryption_and_entries_of_another_type_are_refused(value: str) -> None:
    assert mistake(YAML.replace("{type: SystemKey}", value))[:2] == (13, "accounts[1].encryption")
    assert {found[0] for found in mistakes(f"accounts:\n- {value}\n")} == {2}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "file"),
        ("# nothing\n", "file"),
        ("---\n", "file"),
        ("~", "file"),
        ("- a\n- b\n", "file"),
        ("text", "file"),
        ("1", "file"),
        ("{}", "accounts"),
        ("accounts:", "accounts"),
        ("accounts: {}", "accounts"),
        ("accounts: text", "accounts"),
    ],
)
def test_a_file_that_is_no_list_of_accounts_is_refused(text: str, place: str) -> None:
    assert mistake(text)[1] == place


@pytest.mark.parametrize("text", ["", "accounts = 5", "accounts = {}", "[accounts]", "[other]"])
def test_a_toml_file_that_is_no_list_of_accounts_is_refused(text: str) -> None:
    assert "accounts" in {place for _, place, _ in mistakes(text, "toml")}


def test_unknown_fields_at_the_top_are_named_with_their_line() -> None:
    assert mistake(YAML + "\nversion: 1\n") == (15, "version", "there is no such field")
    assert mistake("version = 1\n" + TOML, "toml") == (1, "version", "there is no such field")


def test_a_field_that_stands_there_twice_is_named_where_it_comes_back() -> None:
    assert mistake(YAML + "    location: westus\n") == (14, "accounts[1].location", "stands here twice")
    assert mistake(YAML + "accounts: []\n")[:2] == (14, "accounts")
    line, place, message = mistake(TOML.replace("[accounts.enc", 'location = "x"\n[accounts.enc', 1), "toml")
    assert (line, place) == (6, "file")
    assert "overwrite" in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("accounts:\n  - id: [\n", 3),
        ("accounts:\n\t- id: x\n", 2),
        ("a: b: c\n", 1),
        ("accounts: *nobody\n", 1),
        ("accounts: []\n---\naccounts: []\n", 2),
        ("accounts:\n- \x00\n", 2),
        ("accounts:\n- x\n- \x1b[31m\n", 3),
        ("accounts:\n- \ud800\n", 2),
        ("accounts:\n- !\x80 x\n", 2),
        ("%YAML 9.9\n---\naccounts: []\n", 1),
        ("accounts:\n  ? [a]\n  : b\n", 2),
        ("accounts:\n  - {<<: text}\n", 2),
    ],
)
def test_what_is_no_yaml_is_refused_at_its_line(text: str, line: int) -> None:
    at, place, message = mistake(text)
    assert (at, place) == (line, "file")
    assert message.isprintable()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("accounts = [\n", 2),
        ("\n[[accounts]\n", 2),
        ('a = "x\n', 1),
        ("a = 1\na = 2\n", 2),
        ("a = 1\n[a]\n", 2),
        ("\nb = \x00\n", 2),
        ("a = 2026-99-99\n", 1),
        ("a = 1\n\u2028\nb\n", 2),
    ],
)
def test_what_is_no_toml_is_refused_at_its_line(text: str, line: int) -> None:
    at, place, message = mistake(text, "toml")
    assert (at, place) == (line, "file")
    assert message.isprintable()


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


def test_lines_in_toml_are_right_whatever_its_strings_and_comments_hold() -> None:
    found = [(line, place) for line, place, _ in mistakes(TOML_LINES, "toml")]
    assert found == [
        (3, "accounts[0].id"),
        (7, "accounts[0].tenant"),
        (9, "accounts[0].location"),
        (12, "accounts[0].encryption.more"),
        (15, "accounts[1].encryption"),
        (18, "accounts[1].location"),
    ]


def test_an_entry_that_leaves_its_encryption_out_is_refused_so_that_no_account_loses_its_key_by_omission() -> None:
    left_out = YAML.replace("    encryption: {type: SystemKey}\n", "")
    assert mistake(left_out)[:2] == (10, "accounts[1].encryption")


def test_lines_of_inline_tables_are_those_of_their_own_entry() -> None:
    wrong = TOML_INLINE.replace("westus2", "West-US")
    assert mistake(wrong, "toml")[:2] == (3, "accounts[1].location")
    many = "accounts = [\n 1,\n 2, [\n 3 ],\n]"
    assert [line for line, _, _ in mistakes(many, "toml")] == [2, 3, 3]


def test_lines_in_yaml_flows_are_those_of_the_fields() -> None:
    wrong = '{accounts: [{id: x,\n  tenant: y,\n  location: "Z"\n},\n5]}'
    assert [line for line, _, _ in mistakes(wrong)] == [1, 1, 2, 3, 5]


def test_a_mistake_behind_an_alias_is_named_where_it_is_written() -> None:
    wrong = YAML_MERGED.replace("identity: platform", "identity: nobody").replace(
        "    encryption: {type: SystemKey}\n", "    encryption: *key\n"
    )
    assert [found[:2] for found in mistakes(wrong)] == [
        (6, "accounts[0].encryption.identity"),
        (6, "accounts[1].encryption.identity"),
    ]
    assert mistakes(YAML_MERGED.replace(f"&tenant {TENANT}", "contoso"))[1][:2] == (4, "accounts[1].tenant")


def test_what_an_account_says_itself_goes_before_what_is_merged_into_it() -> None:
    swapped = YAML_MERGED.replace("  - <<: *first\n    id:", "  - id:") + "    <<: [*first, {location: other}]\n"
    assert read(swapped) == (CONTOSO, FABRIKAM)


def test_hostile_names_and_values_are_shown_without_what_steers_a_terminal() -> None:
    wrong = YAML.replace("location:", '"\\e[31m\\n":', 1).replace("identity: platform", 'identity: "\\e[2J"')
    for _, place, message in mistakes(wrong):
        assert place.isprintable()
        assert message.isprintable()


def test_a_mistake_does_not_repeat_a_huge_value() -> None:
    huge = YAML.replace("identity: platform", f"identity: {'x' * 100_000}").replace("location", "l" * 100_000)
    assert max(len(place) + len(message) for _, place, message in mistakes(huge)) < 1000


def test_a_huge_file_is_refused_unread() -> None:
    assert "split it" in mistake("#" * (MAX_CHARS + 1))[2]


ARM_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities"


@pytest.mark.parametrize(("file_format", "text"), [("yaml", YAML), ("toml", TOML)])
def test_an_identity_may_be_named_by_the_arm_id_that_the_settings_know(file_format: Format, text: str) -> None:
    known = {f"{ARM_ID}/byokd".lower(): "platform"}

    def read(reference: str) -> tuple[AccountSpec, ...]:
        changed = text.replace("platform", reference)
        return read_manifest(
            changed,
            file_format,
            allowed_suffixes=("vault.azure.net",),
            identities=frozenset({"platform"}),
            resource_ids=known,
        )

    for reference in (f"{ARM_ID}/byokd", f"{ARM_ID}/byokd".upper()):
        assert read(reference)[0].customer_key == CONTOSO.customer_key
    for reference, said in (
        (f"{ARM_ID}/other", "no identity of the settings has the resource_id"),
        (f"{ARM_ID}/byokd/x", "not the ARM id of a user-assigned managed identity"),
        ("/etc/passwd", "not the ARM id of a user-assigned managed identity"),
        (
            "https://login.example/",
            "there is no identity 'https://login.example/' in the settings; there are: platform",
        ),
    ):
        with pytest.raises(ManifestInvalidError) as raised:
            read(reference)
        (mistake,) = raised.value.mistakes
        assert (mistake.place, mistake.line) == ("accounts[0].encryption.identity", 8)
        assert said in mistake.message


@pytest.mark.parametrize("field", ["tenant", "location", "id"])
def test_a_field_without_a_value_is_said_to_be_empty(field: str) -> None:
    lines = [f"{line.partition(':')[0]}:" if f"{field}: " in line else line for line in YAML.splitlines()]
    with pytest.raises(ManifestInvalidError) as raised:
        read_manifest(
            "\n".join(lines), "yaml", allowed_suffixes=["vault.azure.net"], identities=frozenset({"platform"})
        )
    told = [(mistake.place, mistake.message) for mistake in raised.value.mistakes]
    assert told == [(f"accounts[{number}].{field}", "is empty") for number in (0, 1)]
