"""What is amiss with customers' keys and accounts as it is stored, and whether the brake is engaged."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from byokd.domain.accounts import instant
from byokd.domain.brake import BrakeMode, EngagedBy
from byokd.domain.identifiers import VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports import StoreUnavailableError
from byokd.ports.brake import BrakeReport
from byokd.ports.examining import AccountsAlike, Plight, StoreLook
from byokd.records import Failing
from byokd.runtime.brake_words import condition, ways_out
from byokd.runtime.examinations.azure import VAULTS, named
from byokd.runtime.findings import Finding, bad, ok, warn
from byokd.settings import BrakeSettings

BRAKE: Final = "brake"
ACCOUNTS: Final = "accounts"

_LIVE: Final = "what needs their account keys is refused as long as their vaults refuse"
_EXPLAIN: Final = "byokd accounts list shows which, byokd explain ACCOUNT why, until when, and what mends it"
_OURS_FIRST: Final = "look at our identity, network and DNS first"


def examine_plight(
    look: StoreLook | StoreUnavailableError, *, settings: BrakeSettings, daemon_answers: bool
) -> Sequence[Finding]:
    """The brake is not engaged, no vault refuses or fails, and every account can be used.

    Nothing without a database.
    """
    if isinstance(look, StoreUnavailableError) or look.plight is None:
        return []
    found = look.plight
    findings = [_of_brake(found.brake, settings), *_of_accounts(found), *_of_vaults(found)]
    if daemon_answers:
        return findings
    return [_as_stored(one) for one in findings]


def _as_stored(finding: Finding) -> Finding:
    """Say that it may have changed since, and that the commands of the hint ask a daemon."""
    hint = None if finding.hint is None else f"start byokd; then: {finding.hint}"
    return replace(finding, found=f"{finding.found} (as last stored: no daemon runs)", hint=hint)


def _of_brake(report: BrakeReport, settings: BrakeSettings) -> Finding:
    engagement = report.brake.engagement
    if engagement is None:
        return ok(BRAKE, "not engaged")
    said, end = (
        condition(report, engagement, settings),
        ways_out(engagement, holds=report.brake.holds(BrakeMode(settings.mode))),
    )
    if engagement.by is EngagedBy.OPERATOR:
        return warn(BRAKE, said, hint=end)
    return bad(BRAKE, said, hint=f"{_OURS_FIRST}; {end}")


def _of_accounts(found: Plight) -> Sequence[Finding]:
    """One finding for each kind of trouble; an account can have several."""
    findings = []
    if damaged := sum(one.number for one in found.accounts if one.is_damaged):
        hint = "byokd accounts list shows which; keep the database, a backup may hold good records: byokd keys verify"
        findings.append(bad(ACCOUNTS, f"{damaged} damaged: their own records do not open", hint=hint))
    kinds: tuple[tuple[Callable[[AccountsAlike], Reason | None], str], ...] = (
        (lambda one: one.denied, "Inaccessible: {}"),
        (lambda one: one.suspicion if one.is_held else None, f"with a denial held by the brake: {{}}; {_LIVE}"),
        (lambda one: None if one.is_held else one.suspicion, f"with a suspected denial: {{}}; {_LIVE}"),
        (
            lambda one: None if one.unverified is one.suspicion else one.unverified,
            "unverified: {}; their state is as it was",
        ),
    )
    for reason_of, words in kinds:
        reasons = _by_reason(found, reason_of)
        if reasons:
            findings.append(warn(ACCOUNTS, f"{reasons.total()} {words.format(_counted(reasons))}", hint=_EXPLAIN))
    every = sum(one.number for one in found.accounts)
    well = sum(one.number for one in found.accounts if _is_well(one))
    return [*findings, *([ok(ACCOUNTS, f"nothing is amiss with {well} of {every}")] if well or not every else [])]


def _by_reason(found: Plight, reason_of: Callable[[AccountsAlike], Reason | None]) -> Counter[Reason]:
    numbers: Counter[Reason] = Counter()
    for one in found.accounts:
        if (reason := reason_of(one)) is not None:
            numbers[reason] += one.number
    return numbers


def _only_unverified(one: AccountsAlike) -> Reason | None:
    """Give why they are unverified, unless it is the denial that is told already."""
    return None if one.unverified is one.suspicion else one.unverified


def _is_well(one: AccountsAlike) -> bool:
    return one.denied is one.suspicion is one.unverified is None and not one.is_damaged


def _counted(reasons: Counter[Reason]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))


def _of_vaults(found: Plight) -> Sequence[Finding]:
    refusing = []
    for reason, hosts in found.refusing.items():
        silent = [host for host in hosts if host in found.failing]
        answering = [host for host in hosts if host not in found.failing]
        for some, when in ((answering, "at the last look"), (silent, "before it gave no answer any more")):
            if some:
                refusing.append(warn(VAULTS, f"{named(some)}: refused a key {when}: {reason}", hint=_EXPLAIN))
    return [*refusing, *_of_failing(found.failing)]


def _of_failing(failing: Mapping[VaultHost, Failing]) -> Sequence[Finding]:
    kinds: dict[Reason, list[VaultHost]] = {}
    for host, one in sorted(failing.items()):
        kinds.setdefault(one.reason, []).append(host)
    return [
        warn(
            VAULTS,
            f"{named(hosts)}: gave no answer at the last look: {reason}; tried again "
            f"{instant(min(failing[host].next_try_at for host in hosts))}",
            hint="their accounts are unverified meanwhile, which changes no state; byokd explain ACCOUNT says more",
        )
        for reason, hosts in sorted(kinds.items())
    ]
