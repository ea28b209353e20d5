"""Azure: the way to the vaults, and whose clock is right."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Final

from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import VaultHost
from byokd.domain.refusals import explain
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import StoreUnavailableError
from byokd.ports.examining import Greeting, Instruments, StoreLook, WatchedVault
from byokd.runtime.findings import Finding, bad, ok, warn

VAULTS: Final = "vaults"
CLOCK: Final = "clock"

SKEW_NOTED: Final = timedelta(seconds=30)
SKEW_BAD: Final = timedelta(minutes=5)
"""Tokens are refused by then: their validity begins and ends by the clock of Entra ID."""

_SHOWN: Final = 3
"""Names in a message."""

_HINTS: Final[Mapping[Reason, str]] = {
    Reason.NAME_NOT_RESOLVED: "see /etc/resolv.conf and the private DNS zone of the vaults; if it is one vault alone, "
    "see that it exists",
    Reason.CONNECTION_FAILED: "see firewall, routes and private endpoints, and network.connect_to",
    Reason.TIMED_OUT: "see firewall and routes: something on the way drops what is sent",
    Reason.TLS_FAILED: "see network.ca_file, and whether a proxy breaks up TLS on the way",
    Reason.FOREIGN_ANSWER: "something else than Key Vault answers, such as a proxy: see network.connect_to and DNS",
}
_TENANT_HINT: Final = "the vault was moved, or the account registered with a wrong tenant: byokd explain ACCOUNT"


async def examine_vaults(
    instruments: Instruments, look: StoreLook | StoreUnavailableError, *, seconds: float
) -> Sequence[Finding]:
    """Some watched vaults resolve, answer over verified TLS and name the tenant of their accounts; clocks agree."""
    if isinstance(look, StoreUnavailableError) or not look.sample:
        why = "the database cannot be read" if isinstance(look, StoreUnavailableError) else "no vault is watched yet"
        return [ok(VAULTS, f"none was asked: {why}"), ok(CLOCK, f"not compared: {why}")]
    greetings = await asyncio.gather(*(_greeted(instruments, vault, seconds=seconds) for vault in look.sample))
    return [*_of_vaults(look, dict(zip(look.sample, greetings, strict=True))), _of_clock(greetings)]


async def _greeted(instruments: Instruments, vault: WatchedVault, *, seconds: float) -> Greeting | None:
    try:
        async with asyncio.timeout(seconds):
            return await instruments.vaults.greet(vault.host)
    except TimeoutError:
        return None


def _of_vaults(look: StoreLook, greetings: Mapping[WatchedVault, Greeting | None]) -> Sequence[Finding]:
    """One finding for each kind of trouble, however many vaults have it."""
    groups: dict[tuple[str, str], list[VaultHost]] = defaultdict(list)
    kinds: dict[tuple[str, str], bool] = {}
    for vault, greeting in greetings.items():
        told = _trouble(vault, greeting)
        if told is None:
            continue
        words, hint, is_ours = told
        groups[words, hint].append(vault.host)
        kinds[words, hint] = is_ours
    findings = []
    for (words, hint), hosts in groups.items():
        found = f"{named(hosts)}: {words}"
        # What hits every vault is on our side of the way; what hits one may be its own.
        make = bad if kinds[words, hint] and len(hosts) == len(greetings) else warn
        findings.append(make(VAULTS, found, hint=hint))
    well = len(greetings) - sum(map(len, groups.values()))
    return [*findings, *([ok(VAULTS, _answering(well, asked=len(greetings), watched=look.vaults))] if well else [])]


def _answering(well: int, *, asked: int, watched: int) -> str:
    """Say how many answer of those that were asked: of the others nothing is known."""
    words = "answer over verified TLS and name the tenant of their accounts"
    if asked >= watched:
        return f"{well} of {watched} watched vaults {words}"
    return f"{well} of {asked} vaults that were asked {words}; {_unasked(watched - asked)}"


def _trouble(vault: WatchedVault, greeting: Greeting | None) -> tuple[str, str, bool] | None:
    """Give what is wrong with a greeting, what to do, and whether it may be on our side."""
    if greeting is None:
        return f"no answer in time: {Reason.TIMED_OUT}", _HINTS[Reason.TIMED_OUT], True
    trouble = greeting.trouble
    if isinstance(trouble, NoAnswer):
        code = f" ({trouble.evidence.code})" if trouble.evidence.code else ""
        default = "wait; the vault answers, but not now"
        return f"{trouble.reason}{code}", _HINTS.get(trouble.reason, default), trouble.reason in _HINTS
    if isinstance(trouble, Refused):
        told = explain(trouble)
        return told.message, told.hint, trouble.kind is RefusalKind.NETWORK_BLOCKED
    if greeting.tenant != vault.tenant:
        return f"the challenge names the tenant {greeting.tenant}, not {vault.tenant}", _TENANT_HINT, True
    return None


def named(hosts: Sequence[VaultHost]) -> str:
    """Name some of them, and say how many more there are."""
    more = len(hosts) - _SHOWN
    return ", ".join(hosts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _of_clock(greetings: Sequence[Greeting | None]) -> Finding:
    """Compare our clock with what vaults say; half a second is the vaults' rounding."""
    ahead = [
        (one.asked_at - one.date).total_seconds() - 0.5 for one in greetings if one is not None and one.date is not None
    ]
    if not ahead:
        return ok(CLOCK, "not compared: no vault told its time")
    skew = timedelta(seconds=median(ahead))
    if abs(skew) < timedelta(seconds=1):
        return ok(CLOCK, "agrees with the vaults' clocks")
    found = f"{abs(skew.total_seconds()):.0f} s {'ahead of' if skew > timedelta(0) else 'behind'} the vaults' clocks"
    hint = "see that NTP runs (timedatectl): tokens and the dates of keys are judged by the time"
    if abs(skew) >= SKEW_BAD:
        return bad(CLOCK, found, hint=hint)
    return warn(CLOCK, found, hint=hint) if abs(skew) >= SKEW_NOTED else ok(CLOCK, found)


def _unasked(number: int) -> str:
    return "1 more is watched, and was not asked" if number == 1 else f"{number} more are watched, and were not asked"
