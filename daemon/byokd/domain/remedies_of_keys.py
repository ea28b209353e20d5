"""What mends a key: its attributes, its operations, its versions, its tags; the key itself when it is gone."""

from datetime import timedelta
from shlex import quote

from byokd.domain.identifiers import AccountId
from byokd.domain.remedy_forms import (
    Case,
    Mender,
    Remedy,
    attributes,
    customer,
    date,
    names,
    of_key,
    of_version,
    option,
    place,
    vault,
    version_words,
    word,
)

ACCOUNT_TAG = "byokd-account"
"""The tag by which a key says for which account it is."""

_YEAR = timedelta(days=365)


def enable(case: Case) -> Remedy:
    """Of `KeyDisabled`."""
    portal = of_version(case, "Enabled: Yes", "Save")
    return customer(f"enable {version_words(case)}", attributes(case, "--enabled true"), portal=portal)


def prolong(case: Case) -> Remedy:
    """Of `KeyExpired`."""
    until = date(case.now + _YEAR)
    return customer(
        f"move the expiry date of {version_words(case)}, or remove it",
        attributes(case, f"--expires {until}"),
        portal=of_version(case, "Set expiration date", "Save"),
    )


def activate(case: Case) -> Remedy:
    """Of `KeyNotYetValid`, denial or warning."""
    return customer(
        f"move the activation date of {version_words(case)}, or remove it",
        attributes(case, f"--not-before {date(case.now)}"),
        portal=of_version(case, "Set activation date", "Save"),
    )


def permit(case: Case) -> Remedy:
    """Of `KeyOperationNotPermitted`."""
    return customer(
        f"permit wrapKey and unwrapKey on {version_words(case)}; --ops sets the whole list, so name what else is used",
        attributes(case, "--ops wrapKey unwrapKey"),
        portal=of_version(case, "Permitted operations: Wrap Key, Unwrap Key", "Save"),
    )


def recover_key(case: Case) -> Remedy:
    """Of `KeyNotFound`."""
    return customer(
        f"recover the deleted key {word(case.key.name)} in the vault {word(vault(case))}, with all its versions; a "
        "purged key comes back only from a backup (second command), and else is gone with all that it wrapped",
        f"az keyvault key recover {names(case)}",
        _restoring(case),
        portal=place(case, "Keys", "Manage deleted keys", word(case.key.name), "Recover"),
    )


def _restoring(case: Case) -> str:
    backup = '"${BACKUP:?file of the backup of the key}"'
    return f"az keyvault key restore {option('--vault-name', vault(case))} --file {backup}"


def restore_key(case: Case) -> Remedy:
    """Of `KeyVersionNotFound`: a name is free for another key only when the former one was purged."""
    return customer(
        f"{version_words(case)} is not there any more: its key was purged, and another one made under its name. There "
        "is nothing to enable or to recover. See first whether the version is listed after all. A backup of the former "
        "key brings it back (second command), but only while no key has its name: the present one has to be deleted "
        "and purged before, and what that one wraps goes with it. Without a backup what the version wrapped is gone: "
        "whoever runs byokd deletes the account, and creates it anew with the present key",
        f"az keyvault key list-versions {names(case)} --output table",
        _restoring(case),
        portal=of_key(case, "Versions"),
    )


def restore_odd_key(case: Case) -> Remedy:
    """Of `ProbeMismatch`."""
    return customer(
        f"{version_words(case)} does not unwrap what it wrapped: another key is in its place. Restore it from a "
        "backup; tell whoever runs byokd, for this should not happen",
        f"az keyvault key list-versions {names(case)} --output table",
        _restoring(case),
        portal=place(case, "Keys", "Restore Backup"),
    )


def mend_newest(case: Case) -> Remedy:
    """Of `NewestVersionUnusable`."""
    return customer(
        f"mend what the warning says of {version_words(case)}: enable it (first command), or permit wrapKey and "
        "unwrapKey (second; --ops sets the whole list, so name what else is used); or rotate to a newer one that is "
        "fit to wrap (third): enabled, within its dates, RSA of 2048, 3072 or 4096 bits, for wrapKey and unwrapKey",
        attributes(case, "--enabled true"),
        attributes(case, "--ops wrapKey unwrapKey"),
        f"az keyvault key rotate {names(case)}",
        portal=of_version(case, "Enabled: Yes", "Save"),
    )


def rotate(case: Case) -> Remedy:
    """Of the warnings `KeyExpired` and `NearExpiry`."""
    return customer(
        f"rotate the key {word(case.key.name)}, or move the expiry date of {version_words(case)}",
        f"az keyvault key rotate {names(case)}",
        portal=of_key(case, "Rotate now"),
    )


def follow(case: Case) -> Remedy:
    """Of `PinnedVersionSuperseded`."""
    return Remedy(
        Mender.CUSTOMER,
        f"the account is pinned to {version_words(case)}, and there is a newer one: have the account's key identifier "
        "changed to the newer version, or to one without a version, which follows the newest",
        ('byokd accounts apply --file "${FILE:?accounts file with the new keyIdentifier}"',),
    )


def tag(case: Case, account: AccountId) -> Remedy:
    """Of a key that does not name the account."""
    return customer(
        f"tag the newest version of the key {word(case.key.name)} in the vault {word(vault(case))} with the name "
        f"{ACCOUNT_TAG} and the account's ARM id as its value ({ACCOUNT_TAG}-2 and so on for more accounts); --tags "
        "sets all tags, so name those that are to stay",
        attributes(case, "--tags", quote(f"{ACCOUNT_TAG}={account}")),
        portal=of_key(case, "Tags"),
    )
