"""What ARM's word changes about a watch, and what it never does."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from byokd.domain.decide import Decision, decide
from byokd.domain.properties import VaultProperties
from byokd.domain.requirements import weigh_vault
from byokd.domain.verdict import Watch, WatchWarning
from byokd.domain.vocabulary import EventType, RefusalKind, WarningKind
from domain.scenes import FRESH, NOW, OPENED, POLICY, V1, facts, look, refused, watch

GOOD = VaultProperties("westeurope", soft_delete=True, purge_protection=True)
HERE = frozenset({"westeurope"})
OF_ARM = {WarningKind.SOFT_DELETE_OFF, WarningKind.VAULT_ELSEWHERE, WarningKind.PURGE_PROTECTION_OFF}
UNSEEN = WatchWarning(WarningKind.NEW_VERSIONS_UNSEEN, None, "GET is refused")

EITHER = st.sampled_from([True, False, None])
TOLD = st.builds(
    VaultProperties, st.sampled_from(["westeurope", "eastus", None]), soft_delete=EITHER, purge_protection=EITHER
)
PLACES = st.frozensets(st.sampled_from(["westeurope", "eastus", "japaneast"]), min_size=1)


PURGEABLE = facts(V1, recovery_level="Recoverable+Purgeable")
NO_GET = refused(RefusalKind.ACCESS_DENIED)


def told_by_arm(on: Watch) -> bool:
    """Whether ARM has told of the present: what it tells afterwards is of no time before."""
    return any("Resource Manager" in warning.message for warning in on.warnings)


def warned(*warnings: WatchWarning) -> Watch:
    return replace(watch(FRESH), warnings=warnings)


LOST = {
    "region": (replace(GOOD, region="eastus"), "VaultElsewhere", "is in the region eastus, accounts with this key are"),
    "soft-delete": (replace(GOOD, soft_delete=False), "SoftDeleteOff", "soft-delete is off"),
}


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_is_told_once_and_what_is_regained_clears(case: str) -> None:
    lost, kind, words = LOST[case]
    on = warned()
    assert weigh_vault(on, GOOD, HERE) is None
    first = weigh_vault(on, lost, HERE)
    assert first is not None
    assert [warning.kind for warning in first.warnings] == [kind]
    (event,) = first.events
    assert event.type in {EventType.KEY_VAULT_ELSEWHERE, EventType.KEY_SOFT_DELETE_OFF}
    assert words in str(event.data["message"])
    assert event.data["keyIdentifier"] == str(on.key)
    on = warned(*first.warnings)
    assert weigh_vault(on, lost, HERE) is None
    mended = weigh_vault(on, GOOD, HERE)
    assert mended is not None
    assert (mended.warnings, mended.events) == ((), ())


def test_each_location_that_is_elsewhere_is_named_and_another_one_is_no_further_event() -> None:
    first = weigh_vault(warned(), GOOD, frozenset({"westeurope", "eastus", "japaneast"}))
    assert first is not None
    assert first.warnings[0].message.endswith("are in eastus, japaneast")
    second = weigh_vault(warned(*first.warnings), GOOD, frozenset({"japaneast"}))
    assert second is not None
    assert second.warnings[0].message.endswith("are in japaneast")
    assert second.events == ()


def test_of_purge_protection_the_key_itself_is_believed_unless_it_cannot_be_read() -> None:
    off = replace(GOOD, purge_protection=False)
    assert weigh_vault(warned(), off, HERE) is None
    told = weigh_vault(warned(UNSEEN), off, HERE)
    assert told is not None
    assert [event.type for event in told.events] == [EventType.KEY_PURGE_PROTECTION_OFF]
    again = weigh_vault(warned(*told.warnings), GOOD, HERE)
    assert again is not None
    assert again.warnings == (UNSEEN,)
    stays = warned(WatchWarning(WarningKind.PURGE_PROTECTION_OFF, None, "by the key"))
    assert weigh_vault(stays, GOOD, HERE) is None


def test_arm_does_not_take_back_what_the_key_itself_said_of_purge_protection() -> None:
    """It may tell of the time before the loss, and of soft-delete and purge protection in contradiction."""
    on = warned()
    lost = decide(on, look(on, OPENED, newest=PURGEABLE), now=NOW, policy=POLICY, jitter=0.0)
    assert [event.type for event in lost.events] == [EventType.KEY_PURGE_PROTECTION_OFF]
    on = warned(*lost.warnings)
    on = warned(*decide(on, look(on, OPENED, newest=NO_GET), now=NOW, policy=POLICY, jitter=0.0).warnings)
    for told in (GOOD, replace(GOOD, soft_delete=False)):
        decision = weigh_vault(on, told, HERE)
        then, _ = after(on, decision, 0)
        again = decide(then, look(then, OPENED, newest=PURGEABLE), now=NOW, policy=POLICY, jitter=0.0)
        assert again.events == ()
    mended = decide(on, look(on, OPENED, newest=facts(V1)), now=NOW, policy=POLICY, jitter=0.0)
    assert mended.warnings == ()


@given(st.lists(st.sampled_from(["arm", "stale", "refuse", "grant", "lose"]), max_size=12))
@example(["lose", "refuse", "stale", "grant"])
def test_one_loss_of_purge_protection_is_one_event_whoever_tells_of_it_and_in_which_order(steps: list[str]) -> None:
    """Nothing is ever regained here; until ARM has told of the loss, it may tell of the time before."""
    on, refuses, safe, events = warned(), False, True, 0
    for step in steps:
        refuses = step == "refuse" or (refuses and step != "grant")
        safe = safe and step != "lose"
        if step == "arm" or (step == "stale" and not told_by_arm(on)):
            told = replace(GOOD, purge_protection=safe or step == "stale")
            on, events = after(on, weigh_vault(on, told, HERE), events)
        newest = NO_GET if refuses else facts(V1) if safe else PURGEABLE
        sight = look(on, OPENED, newest=newest)
        on, events = after(on, decide(on, sight, now=NOW, policy=POLICY, jitter=0.0), events)
    assert events <= 1


def after(on: Watch, decision: Decision | None, events: int) -> tuple[Watch, int]:
    """The watch as it is then, and how often the loss was told by then."""
    if decision is None:
        return on, events
    told = sum(event.type is EventType.KEY_PURGE_PROTECTION_OFF for event in decision.events)
    return replace(on, warnings=decision.warnings), events + told


@given(TOLD, PLACES, st.lists(TOLD, max_size=3), st.booleans())
def test_whatever_arm_tells_no_verdict_changes_nothing_is_told_twice_and_what_it_does_not_say_stays(
    told: VaultProperties,
    places: frozenset[str],
    before: list[VaultProperties],
    unseen: bool,  # noqa: FBT001 - drawn
) -> None:
    on = warned(UNSEEN) if unseen else warned()
    for one in before:
        decision = weigh_vault(on, one, places)
        on = on if decision is None else replace(on, warnings=decision.warnings)
    decision = weigh_vault(on, told, places)
    after = on.warnings if decision is None else decision.warnings
    if decision is not None:
        assert (decision.verdicts, decision.adoption, decision.next_due) == ({}, None, on.due_at)
        assert len(decision.events) == len({w.kind for w in after} - {w.kind for w in on.warnings})
        assert weigh_vault(replace(on, warnings=after), told, places) is None
    kept = [warning for warning in after if warning.kind not in OF_ARM]
    assert kept == [warning for warning in on.warnings if warning.kind not in OF_ARM]
    for kind, said in ((WarningKind.SOFT_DELETE_OFF, told.soft_delete), (WarningKind.VAULT_ELSEWHERE, told.region)):
        if said is None:
            assert [w for w in after if w.kind is kind] == [w for w in on.warnings if w.kind is kind]


def test_looks_at_the_key_keep_what_arm_told() -> None:
    decision = weigh_vault(warned(), VaultProperties("eastus", soft_delete=False, purge_protection=True), HERE)
    assert decision is not None
    on = warned(*decision.warnings)
    for sight in (look(on, OPENED, newest=facts(V1)), look(on, refused(RefusalKind.ACCESS_DENIED))):
        assert decide(on, sight, now=NOW, policy=POLICY, jitter=0.0).warnings == decision.warnings
