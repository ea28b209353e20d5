from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given

from byokd.domain.accounts import Account, AccountEvent, AccountSpec, CustomerKey, follow, instant
from byokd.domain.identifiers import AccountId, IdentityName, TenantId, WatchId, WrappingVersionId
from byokd.domain.verdict import Verdict
from byokd.domain.vocabulary import DetectedBy, EncryptionType, EventType, Outcome, Reason, State
from domain import scenes
from domain.scenes import FRESH, HOUR, KEY, NOW, POLICY, V1, after, denied, inaccessible, unverified, usable

SPEC = AccountSpec(
    AccountId("0f8fad5b-d9cb-469f-a165-70867728950e", "rg", "contoso"),
    TenantId("00000000-0000-0000-0000-000000000001"),
    "westeurope",
    CustomerKey(IdentityName("platform"), KEY),
)
ACCOUNT = Account(
    spec=SPEC,
    incarnation="first",
    sequence=1,
    generation=1,
    watch=WatchId(1),
    wrapping_version=WrappingVersionId(1),
    current=KEY.at(V1),
    state=State.ACCESSIBLE,
    reason=None,
    message="the account key can be unwrapped",
    since=NOW - HOUR,
    unverified_since=None,
    followed=0,
    created_at=NOW - HOUR,
    updated_at=NOW - HOUR,
)
UNTOLD = after(FRESH, (unverified(), NOW))
TOLD = after(UNTOLD, (unverified(), NOW + POLICY.unverified_after))
FELL_SILENT = after(inaccessible(), (unverified(), NOW), (unverified(), NOW + HOUR))

UNVERIFIED, VERIFIED = EventType.ACCOUNT_UNVERIFIED, EventType.ACCOUNT_VERIFIED
INACCESSIBLE, ACCESSIBLE = EventType.ACCOUNT_INACCESSIBLE, EventType.ACCOUNT_ACCESSIBLE


@pytest.mark.parametrize(
    ("verdicts", "types"),
    [
        ([FRESH], [()]),
        ([inaccessible()], [(INACCESSIBLE,)]),
        ([inaccessible(), FRESH], [(INACCESSIBLE,), (ACCESSIBLE,)]),
        ([inaccessible(), inaccessible(Reason.KEY_DISABLED)], [(INACCESSIBLE,), (INACCESSIBLE,)]),
        ([UNTOLD], [()]),
        ([TOLD], [(UNVERIFIED,)]),
        ([TOLD, FRESH], [(UNVERIFIED,), (VERIFIED,)]),
        ([TOLD, inaccessible()], [(UNVERIFIED,), (INACCESSIBLE,)]),
        ([TOLD, after(TOLD, (denied(), NOW))], [(UNVERIFIED,), ()]),
        ([FELL_SILENT], [(UNVERIFIED, INACCESSIBLE)]),
        ([FELL_SILENT, FRESH], [(UNVERIFIED, INACCESSIBLE), (VERIFIED, ACCESSIBLE)]),
        ([after(FRESH, (denied(), NOW))], [()]),
    ],
)
def test_an_account_is_told_what_changed_in_order(verdicts: list[Verdict], types: list[tuple[EventType, ...]]) -> None:
    account, told = ACCOUNT, []
    for verdict in verdicts:
        account, caused = follow(account, verdict)
        told.append(caused)
    assert told == types


@given(scenes.verdicts)
def test_following_twice_changes_nothing_more(played: tuple[Verdict, datetime]) -> None:
    once, _ = follow(ACCOUNT, played[0])
    assert follow(once, played[0]) == (once, ())


@given(scenes.verdicts)
def test_the_state_is_that_of_the_verdict_and_never_that_of_a_suspicion(played: tuple[Verdict, datetime]) -> None:
    verdict, _ = played
    account, types = follow(ACCOUNT, verdict)
    assert (account.state is State.ACCESSIBLE) == (verdict.outcome is Outcome.USABLE)
    assert (account.reason, account.followed) == (verdict.reason, verdict.number)
    assert (account.sequence, account.generation, account.spec) == (1, 1, SPEC)
    assert (INACCESSIBLE in types) == (verdict.outcome is Outcome.DENIED)


def test_the_state_carries_the_verdicts_reason_message_and_time() -> None:
    account, _ = follow(ACCOUNT, inaccessible())
    assert (account.reason, account.message, account.since) == (Reason.ACCESS_DENIED, "denied: AccessDenied", NOW)
    back, _ = follow(account, after(inaccessible(), (usable(), NOW + HOUR)))
    assert (back.reason, back.message, back.since) == (None, "the account key can be unwrapped", NOW + HOUR)


def test_an_event_tells_the_present_state_whole() -> None:
    account, types = follow(ACCOUNT, inaccessible())
    event = AccountEvent(types[0], account, State.ACCESSIBLE, DetectedBy.HINT, NOW, {"attempts": 2})
    assert event.data() == {
        "account": str(SPEC.id),
        "incarnation": "first",
        "sequence": 1,
        "state": "Inaccessible",
        "previousState": "Accessible",
        "reason": "AccessDenied",
        "message": "denied: AccessDenied",
        "since": "2026-11-05T12:00:00.000Z",
        "unverifiedSince": None,
        "damagedSince": None,
        "encryption": "CustomerKey",
        "keyIdentifier": str(KEY),
        "currentKeyIdentifier": str(KEY.at(V1)),
        "detectedBy": "hint",
        "observedAt": "2026-11-05T12:00:00.000Z",
        "attempts": 2,
    }


def test_an_account_of_the_system_key_says_so() -> None:
    account = replace(ACCOUNT, spec=replace(SPEC, customer_key=None), current=None, unverified_since=NOW)
    data = AccountEvent(EventType.ACCOUNT_CREATED, account, None, None, None, {}).data()
    assert (data["encryption"], data["keyIdentifier"], data["currentKeyIdentifier"]) == ("SystemKey", None, None)
    assert (data["previousState"], data["detectedBy"], data["observedAt"]) == (None, None, None)
    assert data["unverifiedSince"] == "2026-11-05T12:00:00.000Z"
    assert account.encryption is EncryptionType.SYSTEM_KEY


def test_times_are_told_in_utc() -> None:
    assert instant(NOW.astimezone(timezone(timedelta(hours=9)))) == "2026-11-05T12:00:00.000Z"
