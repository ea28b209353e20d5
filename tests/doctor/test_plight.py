"""What `byokd doctor` says of customers' keys, of accounts and of the brake."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from byokd.domain.brake import Among, Brake, BrakeMode, Counted, EngagedBy, Engagement
from byokd.domain.brake import Finding as TallyFinding
from byokd.domain.identifiers import VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports import StoreUnavailableError
from byokd.ports.brake import BrakeReport
from byokd.ports.examining import AccountsAlike, Plight, StoreLook
from byokd.records import Failing
from byokd.runtime.examinations.plight import examine_plight
from byokd.runtime.findings import Finding, Grade
from byokd.settings import BrakeSettings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALM = BrakeReport(Brake(1, None, None), 0, None, ())
WELL = AccountsAlike(5, None, None, is_held=False, unverified=None, is_damaged=False)
FOUND = TallyFinding(Counted.VAULTS, Among.ALL, None, customers=4, suspected=3, reasons=(Reason.ACCESS_DENIED,))


def alike(number: int, **amiss: object) -> AccountsAlike:
    usual: dict[str, object] = {"denied": None, "suspicion": None, "is_held": False, "unverified": None}
    return AccountsAlike(number, **{**usual, "is_damaged": False, **amiss})  # type: ignore[arg-type]


def examined(
    *accounts: AccountsAlike, brake: BrakeReport = CALM, answers: bool = True, mode: str = "hold", **more: object
) -> Sequence[Finding]:
    look = Plight(accounts, brake, **{"refusing": {}, "failing": {}, **more})  # type: ignore[arg-type]
    return examine_plight(
        StoreLook("place", "0001", "0001", None, plight=look),
        settings=BrakeSettings(mode=mode),  # type: ignore[arg-type]
        daemon_answers=answers,
    )


def engaged(by: EngagedBy, message: str = "", finding: TallyFinding | None = None, held: int = 0) -> BrakeReport:
    engagement = Engagement(by, NOW, BrakeMode.HOLD, finding, message)
    since = NOW if held else None
    return BrakeReport(Brake(2, engagement, None), held, since, (), accounts=2 * held, tenants=1, vaults=held)


def test_when_nothing_is_amiss_that_is_said_once_for_each() -> None:
    assert [(one.what, one.grade, one.found) for one in examined(WELL)] == [
        ("brake", Grade.OK, "not engaged"),
        ("accounts", Grade.OK, "nothing is amiss with 5 of 5"),
    ]
    assert [one.found for one in examined()][-1] == "nothing is amiss with 0 of 0"


def test_a_brake_that_an_operator_engaged_is_told_with_reason_and_ways_out() -> None:
    brake, _ = examined(WELL, brake=engaged(EngagedBy.OPERATOR, "new credential", held=3))
    assert (brake.grade, brake.what) == (Grade.WARN, "brake")
    assert brake.found == (
        "engaged by an operator since 2026-03-01T12:00:00.000Z: new credential; denials held: 3 (key versions in 3 "
        "vaults of 1 tenant, with 6 accounts), the first until 2026-03-01T13:00:00.000Z"
    )
    assert "`byokd brake release`" in str(brake.hint)
    assert "`byokd brake confirm`" in str(brake.hint)


def test_a_brake_that_an_operator_took_over_is_told_with_both_reasons() -> None:
    brake, _ = examined(WELL, brake=engaged(EngagedBy.OPERATOR, "on call took over", FOUND, held=3))
    assert brake.found.startswith(
        "engaged since 2026-03-01T12:00:00.000Z, first by itself, then by an operator: on call took over (3 of 4 "
        "vaults were suspected at once (AccessDenied), among all customers); denials held: 3"
    )
    assert str(brake.hint).startswith("it stays engaged until an operator ends it")


@pytest.mark.parametrize(
    ("mode", "words", "end"),
    [
        ("hold", "denials held: 3", "`byokd brake release` discards what it holds"),
        ("observe", "it only observes", "`byokd brake release` ends it"),
    ],
)
def test_a_brake_that_the_tally_engaged_is_bad_in_any_mode(mode: str, words: str, end: str) -> None:
    brake, _ = examined(WELL, brake=engaged(EngagedBy.TALLY, finding=FOUND, held=3), mode=mode)
    assert brake.grade is Grade.BAD
    assert "3 of 4 vaults were suspected at once (AccessDenied), among all customers" in brake.found
    assert brake.found.startswith("engaged by itself since 2026-03-01T12:00:00.000Z, for it may be our own fault: ")
    assert words in brake.found
    assert end in str(brake.hint)
    assert ("holds" in str(brake.hint)) is (mode == "hold")
    assert str(brake.hint).startswith("look at our identity, network and DNS first")


@pytest.mark.parametrize(
    ("amiss", "grade", "words"),
    [
        ({"denied": Reason.KEY_DISABLED}, Grade.WARN, "2 Inaccessible: 2 KeyDisabled"),
        ({"suspicion": Reason.ACCESS_DENIED}, Grade.WARN, "2 with a suspected denial: 2 AccessDenied; what needs"),
        (
            {"suspicion": Reason.ACCESS_DENIED, "is_held": True},
            Grade.WARN,
            "2 with a denial held by the brake: 2 AccessDenied; what needs their account keys is refused as long as",
        ),
        ({"unverified": Reason.TIMED_OUT}, Grade.WARN, "2 unverified: 2 TimedOut; their state is as it was"),
        ({"is_damaged": True}, Grade.BAD, "2 damaged: their own records do not open"),
    ],
)
def test_accounts_that_are_not_well_are_counted_by_reason(amiss: dict[str, object], grade: Grade, words: str) -> None:
    _, finding, rest = examined(WELL, alike(2, **amiss))
    assert (finding.what, finding.grade) == ("accounts", grade)
    assert finding.found.startswith(words)
    assert finding.hint
    assert rest.found == "nothing is amiss with 5 of 7"
    _, alone = examined(alike(2, **amiss))
    assert alone.found == finding.found


def test_vaults_that_refuse_or_fail_are_named() -> None:
    hosts = tuple(VaultHost(f"vault{number}.vault.azure.net") for number in range(5))
    failing = {hosts[4]: Failing(Reason.THROTTLED, timedelta(seconds=4), NOW)}
    *_, refused, failed = examined(WELL, refusing={Reason.NETWORK_BLOCKED: hosts[:4]}, failing=failing)
    assert (refused.what, refused.grade, failed.what, failed.grade) == ("vaults", Grade.WARN, "vaults", Grade.WARN)
    assert refused.found.startswith("vault0.vault.azure.net, vault1.vault.azure.net, vault2.vault.azure.net and 1 more")
    assert refused.found.endswith("refused a key at the last look: NetworkBlocked")
    assert failed.found == (
        "vault4.vault.azure.net: gave no answer at the last look: Throttled; tried again 2026-03-01T12:00:00.000Z"
    )


def test_a_vault_that_refused_and_then_fell_silent_has_one_last_look() -> None:
    answering, silent = (VaultHost(f"{name}.vault.azure.net") for name in ("answering", "silent"))
    failing = {silent: Failing(Reason.VAULT_ERROR, timedelta(seconds=4), NOW)}
    *_, refused, before, failed = examined(
        WELL, refusing={Reason.NETWORK_BLOCKED: (answering, silent)}, failing=failing
    )
    assert refused.found == f"{answering}: refused a key at the last look: NetworkBlocked"
    assert before.found == f"{silent}: refused a key before it gave no answer any more: NetworkBlocked"
    assert failed.found.startswith(f"{silent}: gave no answer at the last look: VaultError;")


def test_without_a_daemon_it_is_said_how_old_that_may_be() -> None:
    calm = examined(WELL, answers=False)
    assert {(one.found.endswith("(as last stored: no daemon runs)"), one.hint) for one in calm} == {(True, None)}
    _, trouble = examined(alike(1, denied=Reason.KEY_DISABLED), answers=False)
    assert str(trouble.hint).startswith("start byokd; then: byokd accounts list shows which")


def test_without_a_database_nothing_is_said() -> None:
    gone = StoreUnavailableError("gone", hint="look for it")
    for look in (gone, StoreLook("place", None, "0001", None)):
        assert examine_plight(look, settings=BrakeSettings(), daemon_answers=True) == []
