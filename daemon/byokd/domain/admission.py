"""Whether a customer's key is taken for an account: an ordered tuple of small rules over what is known of it.

Each gives an objection or nothing. Whose the key is comes first: about a key that does not name the account nothing is
said, not even that it is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from byokd.domain.answers import KeyFacts
from byokd.domain.identifiers import AccountId
from byokd.domain.properties import VaultProperties
from byokd.domain.remedies import Case, remedy, remedy_of_warning, tagging
from byokd.domain.vocabulary import Reason, WarningKind
from byokd.domain.warn import of_purging


class Consent(StrEnum):
    """What else than a tag shows that a key may be used for an account.

    `ARM_RIGHTS`: the caller proved rights on the vault at ARM. Nobody can do that yet: accounts come from operators'
    files, and what does come from customers, the ARM API, is still to be built. `ACCOUNT_KEY`: the key has just
    unwrapped the very account key.
    """

    NONE = "none"
    ARM_RIGHTS = "arm-rights"
    ACCOUNT_KEY = "account-key"


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a key is not taken, and what to do; `commands` in order, for whoever administers the vault."""

    message: str
    hint: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """All that the rules look at.

    Attributes:
        account: for which the key is to be taken.
        location: of the account.
        facts: what GET tells of the key identifier now; None: there is no such key.
        case: the key, without a version, and who asks for it.
        must_name: whether a tag of the key has to name the account, because its identity serves several customers.
        must_last: whether the vault has to keep what is deleted.
        vault: what ARM tells of the vault; None when it cannot be asked.
    """

    account: AccountId
    location: str
    facts: KeyFacts | None
    case: Case
    must_name: bool
    must_last: bool
    vault: VaultProperties | None


Rule = Callable[[Candidate], Objection | None]


def unnamed(candidate: Candidate) -> Objection | None:
    """The identity serves several customers, and the key does not name the account."""
    named = candidate.facts is not None and candidate.account in candidate.facts.accounts
    if not candidate.must_name or named:
        return None
    made = tagging(candidate.case, candidate.account)
    return Objection(
        "there is no such key, or no tag of it says that it may be used for this account, whose identity serves "
        "several customers",
        made.text,
        made.commands,
    )


def absent(candidate: Candidate) -> Objection | None:
    """There is no such key."""
    if candidate.facts is not None:
        return None
    return Objection("there is no such key or version", "check the key identifier; recover the key")


def of_wrong_kind(candidate: Candidate) -> Objection | None:
    """Its type or size wraps no account key."""
    unfit = None if candidate.facts is None else candidate.facts.unfit_for_registration()
    if unfit is None:
        return None
    return Objection(f"KeyTypeUnsupported: {unfit}", "create an RSA key of 2048, 3072 or 4096 bits, in software or HSM")


def purgeable(candidate: Candidate) -> Objection | None:
    """Whoever deletes the key could destroy it, and all that it wrapped, for good. Who does not say is not refused."""
    facts, vault = candidate.facts, candidate.vault
    told = facts is not None and facts.recovery_level is not None and of_purging(facts) is not None
    told = told or (vault is not None and False in {vault.soft_delete, vault.purge_protection})
    if not (candidate.must_last and told):
        return None
    made = remedy_of_warning(WarningKind.PURGE_PROTECTION_OFF, candidate.case)
    return Objection("the vault does not have soft-delete and purge protection on", made.text, made.commands)


def apart(candidate: Candidate) -> Objection | None:
    """The vault is in another region than the account, as far as ARM tells."""
    return elsewhere(candidate.location, candidate.vault)


RULES: tuple[Rule, ...] = (unnamed, absent, of_wrong_kind, purgeable, apart)


def objection(candidate: Candidate) -> Objection | None:
    """Give the first objection, or None when the key may be taken if it proves itself."""
    return next((found for rule in RULES if (found := rule(candidate)) is not None), None)


def elsewhere(location: str, vault: VaultProperties | None) -> Objection | None:
    """Object to an account in another region than the vault of its key, as far as ARM tells that."""
    region = None if vault is None else vault.region
    if region is None or region == location:
        return None
    return Objection(
        f"the vault is in the region {region}, the account in {location}",
        "use a key in a vault of the account's region: what the two share is then lost together, or not at all",
    )


def unfit(facts: KeyFacts, now: datetime) -> Objection | None:
    """Object to a version that cannot wrap now: if it is to be proved, not if a watch is on it already."""
    why = facts.unfit_for_wrapping(now)
    return None if why is None else Objection(why, "make the key's newest version fit for wrapKey and unwrapKey")


def _listed(names: tuple[str, ...]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def ungranted(case: Case, *, missing: tuple[str, ...], untold: tuple[str, ...]) -> Objection:
    """Say which permissions the identity lacks; `untold` are those that could not be tried without a version."""
    message = f"the vault refuses the identity {case.identity}: it lacks the permission {_listed(missing)}"
    if untold:
        message += f"; whether {_listed(untold)} too cannot be told without it"
    made = remedy(Reason.ACCESS_DENIED, case)
    return Objection(message, made.text, made.commands)
