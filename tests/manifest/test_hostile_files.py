"""Whatever the text: a spec for each account, or ManifestInvalidError, in time and space that its length allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.runtime.manifest import Format, ManifestInvalidError, read_manifest
from manifest.files import TOML, TOML_LINES, YAML, YAML_MERGED

FORMATS = st.sampled_from(("yaml", "toml"))
PIECES = (
    *("accounts", "id", "encryption", "type", "SystemKey", "x", "<<", "1", "~", "2026-99-99", "0b2", "1:99", "nan"),
    *(":", ": ", "- ", "\n", "\n  ", "\n    ", "\n- ", "&a ", "*a", "!!int ", "!!bool ", "!!timestamp ", "!!binary "),
    *(
        "!!python/object:os.system ",
        "!!float ",
        "!!null ",
        "!!set ",
        "!!omap ",
        "? ",
        "|",
        ">",
        "%",
        "@",
        "`",
        "=",
        ".",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        "[[",
        "]]",
        ",",
        '"',
        "'",
        '"""',
        "'''",
        "\\",
        "#",
        "---",
        "...",
        "\t",
        "\r",
        "\x00",
        "\ud800",
    ),
    *("\u2028", "\x85", "\ufeff"),
)
texts = st.text() | st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def read(text: str, file_format: Format) -> None:
    """Raises nothing but what is documented, and that with mistakes that can be shown and found."""
    mistakes = None
    try:
        read_manifest(text, file_format, allowed_suffixes=("vault.azure.net",), identities=frozenset({"platform"}))
    except ManifestInvalidError as error:
        mistakes = error.mistakes
    assert mistakes is None or mistakes
    for mistake in mistakes or ():
        assert 1 <= mistake.line <= len(text.splitlines()) + 1
        assert mistake.message.isprintable()
        assert mistake.place.isprintable()


@given(texts, FORMATS)
def test_any_text_is_read_or_refused(text: str, file_format: Format) -> None:
    read(text, file_format)


@given(
    st.sampled_from(((YAML, "yaml"), (YAML_MERGED, "yaml"), (TOML, "toml"), (TOML_LINES, "toml"))),
    st.integers(0, 700),
    st.integers(0, 20),
    st.sampled_from(PIECES) | st.text(max_size=4),
)
def test_a_good_file_that_was_damaged_is_read_or_refused(file: tuple[str, Format], at: int, cut: int, put: str) -> None:
    text, file_format = file
    read(text[:at] + put + text[at + cut :], file_format)


DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "file_format"),
    [
        ("[" * DEEP, "yaml"),
        ("{a: " * DEEP, "yaml"),
        ("- " * DEEP, "yaml"),
        ("accounts: " + "[" * 20 + "]" * 20, "yaml"),
        ("a = " + "[" * DEEP, "toml"),
        ("a = " + "{b = " * DEEP, "toml"),
        ("a = " + "[" * 400 + "]" * 400, "toml"),
        ("a." * 3000 + "b = 1", "toml"),
    ],
    ids=["lists", "mappings", "blocks", "a few lists", "arrays", "inline tables", "closed arrays", "dots"],
)
def test_deep_nesting_is_refused(text: str, file_format: Format) -> None:
    with pytest.raises(ManifestInvalidError):
        read_manifest(text, file_format, allowed_suffixes=("vault.azure.net",), identities=frozenset())


def doubling(levels: int, template: str) -> str:
    return "".join(template.format(level=level, before=level - 1) for level in range(1, levels))


BOMBS = {
    "lists": "x0: &a0 [a, a]\n" + doubling(40, "x{level}: &a{level} [*a{before}, *a{before}]\n"),
    "wide lists": "x0: &a0 [a]\n" + doubling(9, "x{level}: &a{level} [" + "*a{before}, " * 9 + "]\n"),
    "mappings": "x0: &a0 {{a: b}}\n".format() + doubling(40, "x{level}: &a{level} {{p: *a{before}, q: *a{before}}}\n"),
    "merges": "x0: &a0 {{a: b}}\n".format()
    + doubling(15, "x{level}: &a{level} {{<<: [*a{before}, *a{before}]}}\n" * 3),
    "itself": "accounts: &a [*a, *a]\n",
    "merged itself": "accounts: [&a {<<: *a}]\n",
    "itself in a mapping": "&a {accounts: *a, b: *a}\n",
    "one name again and again": "x: &x " + "[" + "a, " * 300 + "]\ny: {" + "k: *x, " * 3000 + "}\n",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_aliases_cannot_make_a_file_larger_than_it_is_written(text: str) -> None:
    read(text, "yaml")
    with pytest.raises(ManifestInvalidError):
        read_manifest(text, "yaml", allowed_suffixes=("vault.azure.net",), identities=frozenset())


@pytest.mark.parametrize("digits", [5, 5_000])
def test_numbers_of_any_length_are_refused_as_no_text(digits: int) -> None:
    for text, file_format in ((YAML, "yaml"), (TOML, "toml")):
        wrong = text.replace("westus2", "9" * digits).replace(f'"{"9" * digits}"', "9" * digits)
        with pytest.raises(ManifestInvalidError):
            read_manifest(wrong, file_format, allowed_suffixes=("vault.azure.net",), identities=frozenset({"platform"}))


def test_tags_construct_nothing() -> None:
    wrong = YAML.replace("westus2", "!!python/object/apply:os.abort []")
    with pytest.raises(ManifestInvalidError) as caught:
        read_manifest(wrong, "yaml", allowed_suffixes=("vault.azure.net",), identities=frozenset({"platform"}))
    assert [(mistake.line, mistake.place) for mistake in caught.value.mistakes] == [(12, "accounts[1].location")]
