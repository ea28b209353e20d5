"""What remedies are made of: for which case, in which form, and every name quoted.

Identifiers are hostile input, and commands are pasted into shells: everything that comes from outside is quoted, in
commands as in sentences. What byokd cannot know stands in a command as `"${NAME:?what it is}"`, at which a shell stops
and says so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from shlex import quote

from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId, shown


class Mender(StrEnum):
    """Who can mend it."""

    CUSTOMER = "customer"
    OPERATOR = "operator"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Case:
    """What a remedy is made for.

    Attributes:
        key: the versioned identifier of the key that is to work again.
        tenant: the customer's.
        identity: what asks, by its name in the settings.
        client_id: of that identity; None where only Azure knows it.
        inner_code: what the vault gave as its reason, if anything.
        address: ours, as the vault saw it, if it said so.
        now: for dates in commands.
    """

    key: KeyIdentifier
    tenant: TenantId
    identity: IdentityName
    client_id: str | None
    inner_code: str | None
    address: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Remedy:
    """How to mend it. `commands` are to be run in order, by somebody who administers the vault (or byokd's machine)."""

    mender: Mender
    text: str
    commands: tuple[str, ...] = ()
    portal: str | None = None


Recipe = Callable[[Case], Remedy]

CLOUDS = {
    "vault.usgovcloudapi.net": ("AzureUSGovernment", "portal.azure.us"),
    "vault.azure.cn": ("AzureChinaCloud", "portal.azure.cn"),
}
"""Clouds that are not az's default, by the suffix of their vaults."""

_PLAIN = re.compile(r"[0-9A-Za-z-]{1,128}", re.ASCII)


def vault(case: Case) -> str:
    """Give the name of the vault."""
    return case.key.host.partition(".")[0]


def suffix(case: Case) -> str:
    """Give what follows the name of the vault in its host, which tells the cloud."""
    return case.key.host.partition(".")[2]


def word(text: str) -> str:
    """Give a name for a sentence: as it is when it is harmless."""
    return text if _PLAIN.fullmatch(text) else shown(text)


def place(case: Case, *steps: str) -> str:
    """Give a place in the portal, from the vault on."""
    portal = CLOUDS.get(suffix(case), ("", "portal.azure.com"))[1]
    return " > ".join([portal, "Key vaults", word(vault(case)), *steps])


def of_key(case: Case, *steps: str) -> str:
    """Give a place in the portal, from the key on."""
    return place(case, "Keys", word(case.key.name), *steps)


def of_version(case: Case, *steps: str) -> str:
    """Give a place in the portal, from the version on."""
    return of_key(case, *([] if case.key.version is None else [word(case.key.version)]), *steps)


def attributes(case: Case, *options: str) -> str:
    """Give the command that sets attributes of the version."""
    version = [] if case.key.version is None else [option("--version", case.key.version)]
    return " ".join([f"az keyvault key set-attributes {names(case)}", *version, *options])


def names(case: Case) -> str:
    """Give the options that name vault and key."""
    return f"{option('--vault-name', vault(case))} {option('--name', case.key.name)}"


def vault_name(case: Case) -> str:
    """Give the option that names the vault, for commands about vaults."""
    return option("--name", vault(case))


def option(name: str, value: str) -> str:
    """Give an option with its value, which is no option itself, however it begins."""
    return f"{name}={quote(value)}" if value.startswith("-") else f"{name} {quote(value)}"


def version_words(case: Case) -> str:
    """Name version, key and vault in a sentence."""
    version = "the version" if case.key.version is None else f"version {word(case.key.version)}"
    return f"{version} of the key {word(case.key.name)} in the vault {word(vault(case))}"


def date(time: datetime) -> str:
    """Give a date as `az` wants it."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def customer(text: str, *commands: str, portal: str | None = None) -> Remedy:
    """Give what whoever administers the vault can do."""
    return Remedy(Mender.CUSTOMER, text, commands, portal)


def operator(text: str, *commands: str) -> Recipe:
    """Give what whoever runs byokd can do."""
    return lambda _: Remedy(Mender.OPERATOR, text, commands)


def wait(text: str) -> Recipe:
    """Give what passes by itself."""
    return lambda _: Remedy(Mender.NOBODY, text)
