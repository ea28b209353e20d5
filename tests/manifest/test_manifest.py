"""Accounts files: all of it is right, or every mistake is named with its line and nothing is given."""

from dataclasses import replace

import pytest

from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import IdentityName
from byokd.runtime.manifest import MAX_CHARS, Format, ManifestInvalidError, read_manifest
from manifest.files import (
    CONTOSO,
    FABRIKAM,
    KEY,
    SUBSCRIPTION,
    TENANT,
    TOML,
    TOML_DOTTED,
    TOML_INLINE,
    YAML,
    YAML_MERGED,
    mistake,
    mistakes,
    read,
)


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


def test_an_entry_that_leaves_its_encryption_out_is_refused_so_that_no_account_loses_its_key_by_omission() -> None:
    left_out = YAML.replace("    encryption: {type: SystemKey}\n", "")
    assert mistake(left_out)[:2] == (10, "accounts[1].encryption")


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
