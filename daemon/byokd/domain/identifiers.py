"""Names that come from outside. Both kinds are treated as hostile: anything but the one right form is refused."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NewType, Self
from urllib.parse import urlsplit

IdentityName = NewType("IdentityName", str)
TenantId = NewType("TenantId", str)
VaultHost = NewType("VaultHost", str)
KeyVersion = NewType("KeyVersion", str)
WatchId = NewType("WatchId", int)
WrappingVersionId = NewType("WrappingVersionId", int)

MAX_IDENTIFIER_CHARS = 512
"""Longer than any real identifier (a vault name has 24 characters, a key name 127, a resource group 90)."""

_GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ACCOUNT = re.compile(
    rf"/subscriptions/(?P<subscription>{_GUID})/resourceGroups/(?P<group>[0-9a-z_().-]{{0,89}}[0-9a-z_()-])"
    r"/providers/Microsoft\.Media/mediaservices/(?P<name>[0-9a-z]{3,24})/?",
    re.IGNORECASE | re.ASCII,
)
_TENANT = re.compile(_GUID, re.IGNORECASE | re.ASCII)
_VAULT_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]", re.ASCII)
_KEY_PATH = re.compile(r"/keys/(?P<name>[0-9A-Za-z-]{1,127})(?:/(?P<version>[0-9a-f]{32}))?/?", re.ASCII)


class IdentifierInvalidError(ValueError):
    """An identifier that is not of the one right form. The message says what is wrong, the hint what is right."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, order=True)
class AccountId:
    """An ARM resource id of a `Microsoft.Media/mediaservices` account, in lower case (ARM ignores case)."""

    subscription: str
    resource_group: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an ARM id, without regard to case.

        Raises:
            IdentifierInvalidError: it is not the id of a Media Services account.
        """
        match = _ACCOUNT.fullmatch(text) if len(text) <= MAX_IDENTIFIER_CHARS else None
        if match is None:
            raise IdentifierInvalidError(
                f"not the ARM id of an account: {shown(text)}",
                hint="/subscriptions/{guid}/resourceGroups/{group}/providers/Microsoft.Media/mediaservices/{name}, "
                "with a name of 3 to 24 letters and digits",
            )
        return cls(match["subscription"].lower(), match["group"].lower(), match["name"].lower())

    def __str__(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourcegroups/{self.resource_group}"
            f"/providers/microsoft.media/mediaservices/{self.name}"
        )

    @property
    def topic(self) -> str:
        """Where the account's messages go, below the prefix."""
        return f"accounts/{self.subscription}/{self.resource_group}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class KeyIdentifier:
    """The URL of a key in a vault: versionless (follow the newest) or versioned (pinned)."""

    host: VaultHost
    name: str
    version: KeyVersion | None = None

    @classmethod
    def parse(cls, text: str, *, allowed_suffixes: Sequence[str]) -> Self:
        """Read a key URL that a customer gave.

        Args:
            text: the URL.
            allowed_suffixes: what may follow the vault's name, such as `vault.azure.net`.

        Raises:
            IdentifierInvalidError: it is not `https://{vault}.{suffix}/keys/{name}` with an optional version of 32
                hexadecimal digits. User information, ports, queries, fragments, IP addresses and look-alike hosts are
                all refused, because a token would be sent there.
        """
        hint = f"https://{{vault}}.{allowed_suffixes[0]}/keys/{{name}}, with or without /{{version}}"
        if len(text) > MAX_IDENTIFIER_CHARS:
            raise IdentifierInvalidError(f"a key identifier of {len(text)} characters", hint=hint)
        if "@" in text:
            # Before anything is repeated: it may be a name and a password.
            raise IdentifierInvalidError("a key identifier with an @", hint=hint)
        if not text.isascii() or any(character <= " " for character in text):
            raise IdentifierInvalidError(
                f"key identifier with a character that does not belong: {shown(text)}", hint=hint
            )
        try:
            url = urlsplit(text)
        except ValueError:
            raise IdentifierInvalidError(f"not a URL: {shown(text)}", hint=hint) from None
        if url.scheme.lower() != "https":
            raise IdentifierInvalidError(f"key identifier without https: {shown(text)}", hint=hint)
        host = url.netloc.lower()
        if not is_vault_host(host, allowed_suffixes=allowed_suffixes):
            vault, _, suffix = host.partition(".")
            if suffix in allowed_suffixes:
                raise IdentifierInvalidError(
                    f"no vault can have the name {shown(vault)}",
                    hint="a vault name has 3 to 24 characters: letters, digits and single hyphens, a letter first and "
                    "no hyphen last",
                )
            raise IdentifierInvalidError(
                f"host {shown(url.netloc)} is not an allowed vault host",
                hint=f"{{vault}}.{{suffix}} with a suffix of the setting vaults.allowed_suffixes: "
                f"{', '.join(allowed_suffixes)}",
            )
        path = _KEY_PATH.fullmatch(text[text.index(url.netloc) + len(url.netloc) :])
        if path is None:
            raise IdentifierInvalidError(f"not the URL of a key: {shown(text)}", hint=hint)
        version = path["version"]
        return cls(VaultHost(host), path["name"], None if version is None else KeyVersion(version))

    def __str__(self) -> str:
        base = f"https://{self.host}/keys/{self.name}"
        return base if self.version is None else f"{base}/{self.version}"

    def at(self, version: KeyVersion) -> Self:
        """Give the identifier of one version of this key."""
        return replace(self, version=version)

    @property
    def unpinned(self) -> Self:
        """The identifier of this key without a version."""
        return replace(self, version=None)

    @property
    def topic(self) -> str:
        """Where the key's messages go, below the prefix: lower case, because Key Vault ignores the case of names."""
        return f"keys/{self.host}/{self.name.lower()}"


def is_vault_host(host: str, *, allowed_suffixes: Sequence[str]) -> bool:
    """Whether a host is one vault name directly under an allowed suffix."""
    name, _, suffix = host.partition(".")
    return suffix in allowed_suffixes and _VAULT_NAME.fullmatch(name) is not None


def parse_tenant(text: str) -> TenantId:
    """Read a tenant id.

    Raises:
        IdentifierInvalidError: it is not a GUID.
    """
    if _TENANT.fullmatch(text) is None:
        raise IdentifierInvalidError(f"not a tenant id: {shown(text)}", hint="the GUID of the customer's Entra tenant")
    return TenantId(text.lower())


def shown(text: str) -> str:
    """Quote hostile text for a message: no control characters, and `shortened`."""
    return repr(shortened(text))


def shortened(text: str) -> str:
    """Give at most 80 characters of a text.

    Of longer text the head and more of the tail are given, where an ARM id has the account's name.
    """
    head, tail = 30, 50
    return text if len(text) <= head + tail else f"{text[:head]}...{text[-tail:]}"


def printable(text: str) -> str:
    """Give text with nothing in it that could steer a terminal or a log, and else as it is."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
