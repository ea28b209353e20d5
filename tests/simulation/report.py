"""What a run reached, as a table and as JSON; a run that misses a kind of trouble proves nothing of it."""

import json
from collections import Counter
from pathlib import Path

EXPECTED = (
    "adoption", "suspicion", "suspicion dropped", "recovered", "unverified told", "version retired",
    "denied: KeyDisabled", "denied: AccessDenied", "denied: NetworkBlocked", "denied: KeyNotFound",
    "denied: KeyVersionNotFound", "denied: KeyOperationNotPermitted",
    "event: account.inaccessible", "event: account.accessible", "event: account.unverified", "event: account.verified",
    "event: accountkey.rewrapped", "event: accountkey.rewrap-failed", "event: account.deleted", "event: key.expired",
    "event: key.version-retired", "event: key.newest-version-unusable", "event sent again", "log: resent",
    "log: plaintext-dropped", "log: check-failed", "crash at any moment", "crash at store commit_decision done",
    "crash at bus publish", "crash at vault unwrapKey", "restarts", "stop in good order", "reloads",
    "store: refused before the commit", "store: refused after the commit", "store: stale", "broker: lost",
    "broker: came back older", "broker: came back empty", "broker: refused a message", "revealed", "protected",
    "use refused", "promptness compared", "promptness compared, sharply", "true hint judged", "operator: checked",
    "operator: created", "operator: updated", "operator: refused", "operator: deleted",
    "vault: Throttled", "vault: cut", "vault: wrong", "vault: UnreadableAnswer", "vault: ForeignAnswer",
    "did: lose_identity", "did: lose_network", "did: step_clock", "did: fail_over", "did: flap",
    "did: flood_with_hints", "did: hint_falsely", "vaults left as they were",
    "denial held by the brake", "log: brake-engaged", "log: brake-released", "did: settle_brake",
)  # fmt: skip
"""Kinds that must have been reached over `ENOUGH` seeds."""

ENOUGH = 200


def missed(reached: Counter[str], *, seeds: int) -> list[str]:
    """Kinds that should have been reached, and were not."""
    return [kind for kind in EXPECTED if not reached[kind]] if seeds >= ENOUGH else []


def table(reached: Counter[str]) -> str:
    """Counts, in three columns."""
    cells = [f"{count:>9}  {kind}" for kind, count in sorted(reached.items())]
    height = -(-len(cells) // 3)
    columns = [cells[start : start + height] for start in range(0, len(cells), height or 1)]
    width = max(map(len, cells), default=0) + 2
    return "\n".join(
        "".join(column[row].ljust(width) for column in columns if row < len(column)).rstrip() for row in range(height)
    )


def write(path: Path, **facts: object) -> None:
    """Keep what a run found."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
