"""What comes from outside is hostile: only the one right form is taken."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from byokd.domain.identifiers import (
    MAX_IDENTIFIER_CHARS,
    AccountId,
    IdentifierInvalidError,
    KeyIdentifier,
    KeyVersion,
    VaultHost,
    is_vault_host,
    parse_tenant,
    shown,
)
from byokd.settings import VaultSettings

SUFFIXES = ("vault.azure.net", "vault.azure.cn")
GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
VERSION = "0123456789abcdef0123456789abcdef"
ACCOUNT = f"/subscriptions/{GUID}/resourceGroups/Media-RG/providers/Microsoft.Media/mediaservices/Contoso01"
GOOD = "https://contoso.vault.azure.net/keys/customer-key"

vault_names = st.from_regex(r"[a-z][a-z0-9]{2,10}(-[a-z0-9]{1,5}){0,2}", fullmatch=True)
keys = st.builds(
    KeyIdentifier,
    host=st.builds(lambda name, suffix: VaultHost(f"{name}.{suffix}"), vault_names, st.sampled_from(SUFFIXES)),
    name=st.from_regex(r"[0-9A-Za-z-]{1,127}", fullmatch=True),
    version=st.none() | st.from_regex(r"[0-9a-f]{32}", fullmatch=True).map(KeyVersion),
)
accounts = st.builds(
    AccountId,
    subscription=st.uuids().map(str),
    resource_group=st.from_regex(r"[0-9a-z_().-]{0,30}[0-9a-z_()-]", fullmatch=True),
    name=st.from_regex(r"[0-9a-z]{3,24}", fullmatch=True),
)


def key(text: str) -> KeyIdentifier:
    return KeyIdentifier.parse(text, allowed_suffixes=SUFFIXES)


@given(keys)
def test_a_key_identifier_survives_being_written_and_read(identifier: KeyIdentifier) -> None:
    assert key(str(identifier)) == identifier
    assert key(f"{identifier}/") == identifier
    assert key(str(identifier.at(KeyVersion(VERSION)))).version == VERSION


@given(accounts)
def test_an_account_id_survives_being_written_and_read(account: AccountId) -> None:
    assert AccountId.parse(str(account)) == account
    assert AccountId.parse(str(account).upper()) == account


def test_arm_ids_ignore_case_and_a_trailing_slash() -> None:
    account = AccountId.parse(ACCOUNT)
    assert account == AccountId.parse(ACCOUNT.upper() + "/")
    assert account.topic == f"accounts/{GUID}/media-rg/contoso01"


def test_host_and_scheme_ignore_case_and_names_keep_it() -> None:
    identifier = key("HTTPS://Contoso.Vault.Azure.NET/keys/Customer-Key")
    assert str(identifier) == "https://contoso.vault.azure.net/keys/Customer-Key"
    assert identifier.topic == "keys/contoso.vault.azure.net/customer-key"


HOSTILE_URLS = {
    "another host": "https://example.com/keys/k",
    "suffix as a prefix": "https://contoso.vault.azure.net.example.com/keys/k",
    "suffix without its dot": "https://contosovault.azure.net/keys/k",
    "the bare suffix": "https://vault.azure.net/keys/k",
    "a dot and the suffix": "https://.vault.azure.net/keys/k",
    "two names": "https://a.contoso.vault.azure.net/keys/k",
    "managed HSM": "https://contoso.managedhsm.azure.net/keys/k",
    "user": "https://user@contoso.vault.azure.net/keys/k",
    "user and password": "https://contoso.vault.azure.net:pw@example.com/keys/k",
    "host after an at": "https://contoso.vault.azure.net@example.com/keys/k",
    "empty user": "https://@contoso.vault.azure.net/keys/k",
    "port": "https://contoso.vault.azure.net:443/keys/k",
    "empty port": "https://contoso.vault.azure.net:/keys/k",
    "IPv4": "https://127.0.0.1/keys/k",
    "IPv6": "https://[::1]/keys/k",
    "broken IPv6": "https://[::1/keys/k",
    "IPv4 before the suffix": "https://127.0.0.1.vault.azure.net/keys/k",
    "number as host": "https://2130706433/keys/k",
    "localhost": "https://localhost/keys/k",
    "punycode": "https://xn--contos-uta.vault.azure.net/keys/k",
    "trailing dot": "https://contoso.vault.azure.net./keys/k",
    "two hyphens": "https://con--toso.vault.azure.net/keys/k",
    "hyphen first": "https://-contoso.vault.azure.net/keys/k",
    "hyphen last": "https://contoso-.vault.azure.net/keys/k",
    "digit first": "https://1contoso.vault.azure.net/keys/k",
    "two letters": "https://ab.vault.azure.net/keys/k",
    "25 letters": f"https://{'a' * 25}.vault.azure.net/keys/k",
    "underscore": "https://con_toso.vault.azure.net/keys/k",
    "escaped dot in the host": "https://contoso%2evault.azure.net/keys/k",
    "escaped slash in the host": "https://contoso.vault.azure.net%2fexample.com/keys/k",
    "look-alike letter": "https://c\u043entoso.vault.azure.net/keys/k",
    "look-alike dot": "https://contoso.vault\u3002azure.net/keys/k",
    "full-width letter": "https://contoso.vault.azure.\uff4eet/keys/k",
    "letter that folds": "https://contoso.vault.azure.net/\u212aeys/k",
    "letter that lowers to ASCII": "https://\u212aontoso.vault.azure.net/keys/k",
    "http": "http://contoso.vault.azure.net/keys/k",
    "no scheme": "//contoso.vault.azure.net/keys/k",
    "no slashes": "https:contoso.vault.azure.net/keys/k",
    "one slash": "https:/contoso.vault.azure.net/keys/k",
    "three slashes": "https:///contoso.vault.azure.net/keys/k",
    "backslashes": "https:\\\\contoso.vault.azure.net/keys/k",
    "backslash after the host": "https://contoso.vault.azure.net\\keys/k",
    "backslash and another host": "https://example.com\\@contoso.vault.azure.net/keys/k",
    "another scheme": "httpss://contoso.vault.azure.net/keys/k",
    "script": "javascript://contoso.vault.azure.net/keys/k",
    "dots": "https://contoso.vault.azure.net/keys/../secrets/k",
    "dots inside": "https://contoso.vault.azure.net/secrets/../keys/k",
    "escaped dots": "https://contoso.vault.azure.net/keys/%2e%2e/k",
    "escaped slash": f"https://contoso.vault.azure.net/keys/k%2f{VERSION}",
    "two slashes": "https://contoso.vault.azure.net//keys/k",
    "two slashes inside": "https://contoso.vault.azure.net/keys//k",
    "two slashes last": "https://contoso.vault.azure.net/keys/k//",
    "query": "https://contoso.vault.azure.net/keys/k?api-version=7.4",
    "empty query": "https://contoso.vault.azure.net/keys/k?",
    "query before the path": "https://contoso.vault.azure.net?/keys/k",
    "fragment": "https://contoso.vault.azure.net/keys/k#x",
    "empty fragment": "https://contoso.vault.azure.net/keys/k#",
    "parameters": "https://contoso.vault.azure.net/keys/k;x",
    "operation": f"https://contoso.vault.azure.net/keys/k/{VERSION}/unwrapkey",
    "secret": "https://contoso.vault.azure.net/secrets/k",
    "deleted key": "https://contoso.vault.azure.net/deletedkeys/k",
    "KEYS": "https://contoso.vault.azure.net/KEYS/k",
    "no name": "https://contoso.vault.azure.net/keys/",
    "no path": "https://contoso.vault.azure.net",
    "long name": f"https://contoso.vault.azure.net/keys/{'k' * 128}",
    "short version": f"https://contoso.vault.azure.net/keys/k/{VERSION[:-1]}",
    "version in upper case": f"https://contoso.vault.azure.net/keys/k/{VERSION.upper()}",
    "no hexadecimal version": f"https://contoso.vault.azure.net/keys/k/{'g' * 32}",
    "space before": " " + GOOD,
    "space after": GOOD + " ",
    "space inside": "https://contoso.vault.azure.net/keys/k k",
    "tab in the host": "https://contoso.vault\t.azure.net/keys/k",
    "newline in the scheme": "ht\ntps://contoso.vault.azure.net/keys/k",
    "newline last": GOOD + "\n",
    "carriage return": "https://contoso.vault.azure.net/keys/\rk",
    "NUL": "https://contoso.vault.azure.net/keys/k\0",
    "NUL before": "\0" + GOOD,
    "delete": "https://contoso.vault.azure.net/keys/k\x7f",
    "no-break space": GOOD + "\u00a0",
    "soft hyphen": "https://con\u00adtoso.vault.azure.net/keys/k",
    "direction": "https://contoso.vault.azure.net/keys/\u202ek",
    "half of a pair": "https://contoso.vault.azure.net/keys/\ud800",
    "digits of another script": "https://contoso.vault.azure.net/keys/k\u0661",
    "empty": "",
    "huge": "https://contoso.vault.azure.net/keys/" + "k" * 1_000_000,
    "huge host": f"https://{'a' * 1_000_000}.vault.azure.net/keys/k",
}


def test_what_may_be_a_password_is_not_repeated() -> None:
    for text in ("https://user:secret@contoso.vault.azure.net/keys/k", "user:secret@\u00e4", "http://:secret@x"):
        with pytest.raises(IdentifierInvalidError) as refused:
            KeyIdentifier.parse(text, allowed_suffixes=("vault.azure.net",))
        assert "secret" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("text", HOSTILE_URLS.values(), ids=HOSTILE_URLS.keys())
def test_a_url_that_could_steer_a_token_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(IdentifierInvalidError) as caught:
        key(text)
    assert_fit_to_show(caught.value)


@given(st.sampled_from(VaultSettings().allowed_suffixes), st.text(max_size=30), st.text(max_size=60))
def test_by_default_a_host_is_one_label_under_a_suffix_of_the_three_clouds(suffix: str, vault: str, rest: str) -> None:
    text = f"https://{vault}.{suffix}/keys/{rest}"
    try:
        identifier = KeyIdentifier.parse(text, allowed_suffixes=VaultSettings().allowed_suffixes)
    except IdentifierInvalidError as error:
        assert_fit_to_show(error)
        return
    label, _, found = identifier.host.partition(".")
    assert found == suffix
    assert re.fullmatch(r"[a-z][a-z0-9-]{2,23}", label, re.ASCII)


FORM = re.compile(
    r"https://[a-z][a-z0-9-]{1,22}[a-z0-9]\.vault\.azure\.(?:net|cn)/keys/[0-9A-Za-z-]{1,127}(?:/[0-9a-f]{32})?/?"
)
CUTS = (*HOSTILE_URLS.values(), GOOD, f"{GOOD}/{VERSION}")
mutations = st.builds(
    lambda text, at, cut, put: text[: at % (len(text) + 1)] + put + text[at % (len(text) + 1) + cut :],
    st.sampled_from([text for text in CUTS if len(text) < MAX_IDENTIFIER_CHARS]),
    st.integers(0, 300),
    st.integers(0, 3),
    st.sampled_from(("", "/", "\\", "@", ":", ".", "?", "#", "%2f", "\t", "\n", "\0", "//", "..", "[", "]", "\u212a"))
    | st.text(max_size=3),
)


@given(mutations | st.text())
@example("https://contoso.vault.azure.net/keys/k/https://contoso.vault.azure.net/keys/k")
def test_whatever_is_taken_has_exactly_the_one_form_and_an_allowed_host(text: str) -> None:
    try:
        identifier = key(text)
    except IdentifierInvalidError as error:
        assert_fit_to_show(error)
        return
    host, _, path = text[len("https://") :].partition("/")
    assert FORM.fullmatch(text[:8].lower() + host.lower() + "/" + path)
    assert identifier.host == host.lower()
    assert "--" not in identifier.host
    assert is_vault_host(identifier.host, allowed_suffixes=SUFFIXES)
    assert str(identifier) == f"https://{identifier.host}/{path}".removesuffix("/")
    assert key(str(identifier)) == identifier


HOSTILE_IDS = {
    "no slash": ACCOUNT[1:],
    "another provider": ACCOUNT.replace("Microsoft.Media", "Microsoft.Compute"),
    "dot that is any character": ACCOUNT.replace("Microsoft.Media", "MicrosoftxMedia"),
    "another type": ACCOUNT.replace("mediaservices", "videoAnalyzers"),
    "a child": ACCOUNT + "/assets/a",
    "two slashes": ACCOUNT + "//",
    "newline": ACCOUNT + "\n",
    "no GUID": ACCOUNT.replace(GUID, "not-a-guid"),
    "GUID in braces": ACCOUNT.replace(GUID, "{" + GUID + "}"),
    "group with a dot last": ACCOUNT.replace("Media-RG", "rg."),
    "group of dots": ACCOUNT.replace("Media-RG", ".."),
    "group with a slash": ACCOUNT.replace("Media-RG", "a/b"),
    "group with a wildcard": ACCOUNT.replace("Media-RG", "+"),
    "group with all below": ACCOUNT.replace("Media-RG", "#"),
    "group with an escape": ACCOUNT.replace("Media-RG", "a%2fb"),
    "group of 91": ACCOUNT.replace("Media-RG", "g" * 91),
    "no group": ACCOUNT.replace("Media-RG", ""),
    "group with a letter that folds": ACCOUNT.replace("Media-RG", "\u212aey"),
    "short name": ACCOUNT.replace("Contoso01", "ab"),
    "long name": ACCOUNT.replace("Contoso01", "a" * 25),
    "name with a hyphen": ACCOUNT.replace("Contoso01", "con-toso"),
    "name with other digits": ACCOUNT.replace("Contoso01", "contoso\u0661"),
    "long s": ACCOUNT.replace("Contoso01", "conto\u017fo"),
    "empty": "",
    "huge": ACCOUNT + "a" * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE_IDS.values(), ids=HOSTILE_IDS.keys())
def test_what_is_no_account_id_is_refused(text: str) -> None:
    with pytest.raises(IdentifierInvalidError) as caught:
        AccountId.parse(text)
    assert_fit_to_show(caught.value)


@given(st.text() | st.builds(lambda at, put: ACCOUNT[:at] + put + ACCOUNT[at:], st.integers(0, 160), st.text()))
def test_an_account_that_is_taken_makes_a_topic_of_four_plain_levels(text: str) -> None:
    try:
        account = AccountId.parse(text)
    except IdentifierInvalidError as error:
        assert_fit_to_show(error)
        return
    assert re.fullmatch(r"accounts/[0-9a-f-]{36}/[0-9a-z_().-]{1,90}/[0-9a-z]{3,24}", account.topic)


@pytest.mark.parametrize(
    "text", ["", "contoso", GUID + "\n", f"{{{GUID}}}", GUID.replace("-", ""), "\u0661" + GUID[1:]]
)
def test_what_is_no_tenant_is_refused(text: str) -> None:
    with pytest.raises(IdentifierInvalidError) as caught:
        parse_tenant(text)
    assert_fit_to_show(caught.value)


def test_tenants_ignore_case() -> None:
    assert parse_tenant(GUID.upper()) == GUID


@given(st.text() | st.text(alphabet="\x00\x1b\n\r\x7f\u202e\ud800'\""))
def test_hostile_text_is_shown_on_one_line_without_anything_that_steers(text: str) -> None:
    assert shown(text).isprintable()


@pytest.mark.parametrize("vault", ["v1", "1contoso", "con--toso", "contoso-", "-contoso", "a" * 25, "con_toso", ""])
def test_an_impossible_name_of_a_vault_is_told_from_a_host_that_is_not_allowed(vault: str) -> None:
    with pytest.raises(IdentifierInvalidError, match=f"no vault can have the name '{vault}'") as caught:
        key(f"https://{vault}.vault.azure.net/keys/k")
    assert "3 to 24 characters" in caught.value.hint
    with pytest.raises(IdentifierInvalidError, match="is not an allowed vault host"):
        key(f"https://{vault}.vault.example.com/keys/k")


@pytest.mark.parametrize("name", ["con-toso", "ab", "abcdefghijklmnopqrstuvwxy"])
def test_a_wrong_name_of_an_account_is_seen_in_the_message(name: str) -> None:
    with pytest.raises(IdentifierInvalidError, match=f"mediaservices/{name}'"):
        AccountId.parse(ACCOUNT.replace("Contoso01", name))


def test_long_text_is_shown_by_its_head_and_tail() -> None:
    assert shown("a" * 80) == repr("a" * 80)
    assert shown("h" * 30 + "m" * 1000 + "t" * 50) == repr("h" * 30 + "..." + "t" * 50)


def assert_fit_to_show(error: IdentifierInvalidError) -> None:
    assert str(error).isprintable()
    assert error.hint.isprintable()
    assert len(str(error)) < 1200
