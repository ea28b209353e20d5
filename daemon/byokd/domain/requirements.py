"""What is wanted of a vault for as long as its keys are used: warnings about what ARM tells of it.

A look at the key tells nothing of that, and keeps these warnings as they are. None of them ever changes a verdict.
"""

from collections.abc import Iterator
from typing import Final

from byokd.domain import warn
from byokd.domain.decide import Decision, KeyEvent
from byokd.domain.properties import VaultProperties
from byokd.domain.verdict import Watch, WatchWarning
from byokd.domain.vocabulary import DetectedBy, WarningKind

_TOLD: Final = frozenset({WarningKind.PURGE_PROTECTION_OFF, WarningKind.SOFT_DELETE_OFF, WarningKind.VAULT_ELSEWHERE})

_PURGEABLE_BY_ARM: Final = f"{warn.PURGEABLE} (Azure Resource Manager says so: GET is refused)"


def weigh_vault(watch: Watch, vault: VaultProperties, locations: frozenset[str]) -> Decision | None:
    """Give what ARM's word changes about a watch; None when nothing. Of what ARM does not say nothing changes.

    Args:
        watch: the stored facts.
        vault: what ARM tells of its vault now.
        locations: of its accounts.
    """
    warnings = (
        *(warning for warning in watch.warnings if warning.kind not in _TOLD),
        *_purge_protection(watch, vault),
        *_soft_delete(watch, vault),
        *_region(watch, vault, locations),
    )
    if warnings == watch.warnings:
        return None
    events = tuple(
        KeyEvent(
            event_type,
            {
                "keyIdentifier": str(watch.concerned(warning)),
                "message": warning.message,
                "detectedBy": str(DetectedBy.POLL),
            },
        )
        for event_type, warning in warn.news(watch.warnings, warnings)
    )
    return Decision({}, {}, None, warnings, events, watch.due_at, changes=True)


def _purge_protection(watch: Watch, vault: VaultProperties) -> Iterator[WatchWarning]:
    """ARM says it only in the place of GET, which is refused: the key itself knows better.

    What the key itself said stays until it says otherwise: ARM may still tell of the time before, and the loss would be
    told anew with the next GET.
    """
    before = tuple(_before(watch, WarningKind.PURGE_PROTECTION_OFF))
    by_arm = all(warning.message == _PURGEABLE_BY_ARM for warning in before)
    if not (_get_is_refused(watch) and by_arm) or vault.purge_protection is None:
        yield from before
    elif not vault.purge_protection:
        yield WatchWarning(WarningKind.PURGE_PROTECTION_OFF, None, _PURGEABLE_BY_ARM)


def _soft_delete(watch: Watch, vault: VaultProperties) -> Iterator[WatchWarning]:
    if vault.soft_delete is None:
        yield from _before(watch, WarningKind.SOFT_DELETE_OFF)
    elif not vault.soft_delete:
        message = "soft-delete is off: a deleted key or vault is gone at once, and with it all that it wrapped"
        yield WatchWarning(WarningKind.SOFT_DELETE_OFF, None, message)


def _region(watch: Watch, vault: VaultProperties, locations: frozenset[str]) -> Iterator[WatchWarning]:
    """Accounts are elsewhere: what they and the vault share is no longer lost together, or not at all."""
    if vault.region is None:
        yield from _before(watch, WarningKind.VAULT_ELSEWHERE)
    elif elsewhere := sorted(locations - {vault.region}):
        message = f"the vault is in the region {vault.region}, accounts with this key are in {', '.join(elsewhere)}"
        yield WatchWarning(WarningKind.VAULT_ELSEWHERE, None, message)


def _get_is_refused(watch: Watch) -> bool:
    return any(warning.kind is WarningKind.NEW_VERSIONS_UNSEEN for warning in watch.warnings)


def _before(watch: Watch, kind: WarningKind) -> Iterator[WatchWarning]:
    return (warning for warning in watch.warnings if warning.kind is kind)
