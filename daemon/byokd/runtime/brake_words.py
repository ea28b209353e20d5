"""How the brake is, in words: `/healthz`, `byokd brake`, `byokd explain` and `byokd doctor` say the same."""

from byokd.domain.accounts import instant
from byokd.domain.brake import Among, BrakeMode, EngagedBy, Engagement
from byokd.ports.brake import BrakeReport
from byokd.settings import BrakeSettings


def sentence(report: BrakeReport, settings: BrakeSettings) -> str:
    """Say how the brake is, and what it holds."""
    engagement = report.brake.engagement
    if engagement is None:
        return "not engaged"
    return f"{_engaged(engagement)}; {holding(report, settings)}"


def holding(report: BrakeReport, settings: BrakeSettings) -> str:
    """Say what an engaged brake holds."""
    if not report.brake.holds(BrakeMode(settings.mode)):
        return "it only observes, and holds nothing"
    if report.held_since is None:
        return "no denial is held now"
    first = instant(report.held_since + settings.max_hold)
    where = f"{_counted(report.vaults, 'vault')} of {_counted(report.tenants, 'tenant')}"
    of = f"key versions in {where}, with {_counted(report.accounts, 'account')}"
    return f"denials held: {report.held} ({of}), the first until {first}"


def condition(report: BrakeReport, engagement: Engagement, settings: BrakeSettings) -> str:
    """Say of an engaged brake why it is, and what it holds."""
    return f"{why_engaged(engagement)}; {holding(report, settings)}"


def why_engaged(engagement: Engagement) -> str:
    """Say who or what engaged it, since when and why; of an operator's, in the operator's words."""
    tally = found(engagement)
    if engagement.by is not EngagedBy.OPERATOR:
        return f"{_engaged(engagement)}: {tally}"
    return f"{_engaged(engagement)}: {engagement.message}" + (f" ({tally})" if tally else "")


def found(engagement: Engagement) -> str:
    """Say what the tally found; empty where an operator engaged it before the tally found anything."""
    finding = engagement.finding
    if finding is None:
        return ""
    whose = "all customers" if finding.identity is None else f"the customers of the identity {finding.identity}"
    lately = "" if finding.among is Among.ALL else " that were looked at lately"
    share = f"{finding.suspected} of {finding.customers} {finding.counted}{lately}"
    return f"{share} were suspected at once ({', '.join(finding.reasons)}), among {whose}"


def ways_out(engagement: Engagement, *, holds: bool) -> str:
    """Say what ends it; `holds` tells whether it holds denials back, or only observes."""
    words = "`byokd brake release` ends it, and so does `byokd brake confirm`, where the customers really revoked"
    if holds:
        words = (
            "`byokd brake release` discards what it holds (a vault that still refuses is suspected anew), `byokd brake "
            "confirm` applies it"
        )
    if engagement.by is EngagedBy.OPERATOR:
        return f"it stays engaged until an operator ends it: {words}"
    return f"it lets go by itself when nothing that it met is refused any more; {words}"


def _engaged(engagement: Engagement) -> str:
    since = f"since {instant(engagement.since)}"
    if engagement.by is not EngagedBy.OPERATOR:
        return f"engaged by itself {since}, for it may be our own fault"
    if engagement.finding is not None:
        # An order keeps the time of what it takes over.
        return f"engaged {since}, first by itself, then by an operator"
    return f"engaged by an operator {since}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
