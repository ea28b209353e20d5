"""A mistake is named where it is written, whatever the form of the file."""

import pytest

from byokd.runtime.manifest import Format
from manifest.files import TENANT, TOML, TOML_INLINE, TOML_LINES, YAML, YAML_MERGED, mistake, mistakes


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
