"""What a 200 of Key Vault holds. Read strictly: an answer that is not exactly for what was asked is unreadable."""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from byokd.domain.answers import KeyFacts
from byokd.domain.identifiers import AccountId, IdentifierInvalidError, KeyIdentifier, KeyVersion

_VERSION: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z+-]{1,64}", re.ASCII)
"""What the service calls its types of keys, operations and levels of recovery."""

_NAMES_ACCOUNT: Final = re.compile(r"byokd-account(-.*)?", re.IGNORECASE | re.DOTALL)
"""Tags by whose values a key says which accounts it is for."""

_MOST_TAGS: Final = 15
"""As many as Key Vault lets a key have (documentation)."""


class UnreadableError(ValueError):
    """An answer that does not hold what it should. The message names the field, never its value."""


def read_facts(document: object, *, asked: KeyIdentifier) -> KeyFacts:
    """Read the answer to GET.

    Raises:
        UnreadableError: it is not a key, or another key or version than the one asked for.
    """
    bundle = _mapping(document, "body")
    key, attributes = _mapping(bundle.get("key"), "key"), _mapping(bundle.get("attributes"), "attributes")
    operations = key.get("key_ops", [])
    if not isinstance(operations, list) or not all(isinstance(operation, str) for operation in operations):
        raise UnreadableError("key_ops")
    enabled = attributes.get("enabled")
    if not isinstance(enabled, bool):
        raise UnreadableError("enabled")
    level = attributes.get("recoveryLevel")
    return KeyFacts(
        version=_version(key.get("kid"), asked=asked),
        key_type=_word(key.get("kty"), "kty"),
        bits=_bits(key["n"]) if "n" in key else 0,
        enabled=enabled,
        operations=frozenset(filter(_WORD.fullmatch, operations)),
        created=_time(attributes, "created"),
        not_before=_time(attributes, "nbf"),
        expires=_time(attributes, "exp"),
        recovery_level=None if level is None else _word(level, "recoveryLevel"),
        accounts=_accounts(bundle.get("tags")),
    )


def read_value(document: object, *, asked: KeyIdentifier) -> bytes:
    """Read the answer to wrapKey or unwrapKey: at least one octet.

    Raises:
        UnreadableError: it holds no value, or was made with another key or version than the one asked for.
    """
    result = _mapping(document, "body")
    _version(result.get("kid"), asked=asked)
    return _octets(result.get("value"), "value")


def encode(octets: bytes) -> str:
    """Give base64url without padding, as Key Vault takes it."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _version(kid: object, *, asked: KeyIdentifier) -> KeyVersion:
    key, _, version = _text(kid, "kid").rpartition("/")
    # Key Vault ignores the case of key names.
    if key.lower() != f"https://{asked.host}/keys/{asked.name}".lower() or _VERSION.fullmatch(version) is None:
        raise UnreadableError("kid")
    if asked.version not in (None, version):
        raise UnreadableError("kid")
    return KeyVersion(version)


def _accounts(tags: object) -> frozenset[AccountId]:
    """Read which accounts tags name; what is none is passed over, for tags are anybody's notes."""
    if tags is None:
        return frozenset()
    named = _mapping(tags, "tags")
    if len(named) > _MOST_TAGS:
        raise UnreadableError("tags")
    return frozenset(
        account
        for name, value in named.items()
        if _NAMES_ACCOUNT.fullmatch(name) and isinstance(value, str) and (account := _account(value)) is not None
    )


def _account(text: str) -> AccountId | None:
    try:
        return AccountId.parse(text.strip())
    except IdentifierInvalidError:
        return None


def _octets(text: object, name: str) -> bytes:
    encoded = _text(text, name)
    try:
        octets = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise UnreadableError(name) from None
    if not octets or encode(octets) != encoded:
        raise UnreadableError(name)
    return octets


def _bits(modulus: object) -> int:
    return int.from_bytes(_octets(modulus, "n"), "big").bit_length()


def _time(attributes: Mapping[str, object], name: str) -> datetime | None:
    seconds = attributes.get(name)
    if seconds is None:
        return None
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise UnreadableError(name)
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise UnreadableError(name) from None


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise UnreadableError(name)
    return value


def _word(value: object, name: str) -> str:
    word = _text(value, name)
    if _WORD.fullmatch(word) is None:
        raise UnreadableError(name)
    return word


def _mapping(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UnreadableError(name)
    return value
