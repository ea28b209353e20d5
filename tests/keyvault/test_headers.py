"""What headers say beside the status: when to come again, who we are to the vault, what time it is there."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.adapters.keyvault.classify import Reply, classify_reply
from byokd.adapters.keyvault.dates import VaultDates
from byokd.adapters.keyvault.headers import MOST_RETRY_AFTER, our_address, retry_after
from byokd.adapters.keyvault.service import Bystanders
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import NoAnswer
from byokd.domain.identifiers import VaultHost
from byokd.settings import VaultSettings
from keyvault.double import Double, Tokens, answer, challenge
from keyvault.test_hostile_vaults import TENANT, target
from keyvault.way import ServiceOver

NOON, LATER = "Thu, 05 Nov 2026 12:00:00 GMT", "Thu, 05 Nov 2026 12:01:30 GMT"
BEYOND = (
    "Thu, 05 Nov 99999999999999999999 12:00:00 GMT",
    "Thu, 05 Nov 2026 12:00:00 +99999999999999999999",
    "Fri, 31 Dec 9999 23:59:59 -1200",
)
SECOND = timedelta(seconds=1)
GONE = {"error": {"code": "KeyNotFound", "message": "no"}}


@pytest.mark.parametrize(
    ("asked", "sent", "wait"),
    [
        ("7", None, 7 * SECOND),
        (" 0 ", None, 0 * SECOND),
        ("600", None, MOST_RETRY_AFTER),
        ("601", None, MOST_RETRY_AFTER),
        ("999999999", None, MOST_RETRY_AFTER),
        (LATER, NOON, 90 * SECOND),
        (NOON, LATER, 0 * SECOND),
        ("Thu, 05 Nov 2036 12:00:00 GMT", NOON, MOST_RETRY_AFTER),
        (LATER, None, None),
        (LATER, "yesterday", None),
        (None, NOON, None),
        ("", NOON, None),
        ("-1", NOON, None),
        ("1.5", NOON, None),
        ("٣", NOON, None),
        ("soon", NOON, None),
        ("Thu, 05 Nov 2026 12:01:30", NOON, None),
        ("9" * 5000, NOON, None),
        ("Thu, 05 Nov 99999999999999999999 12:00:00 GMT", NOON, None),
        (LATER, "Thu, 05 Nov 2026 12:00:00 +99999999999999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", NOON, None),
        ("(" * 8000, NOON, None),
    ],
)
def test_how_long_whoever_answers_wants_to_be_left_alone(
    asked: str | None, sent: str | None, wait: timedelta | None
) -> None:
    headers = {name: value for name, value in (("Retry-After", asked), ("Date", sent)) if value is not None}
    assert retry_after(headers) == wait
    for status in (429, 500, 503):
        silent = classify_reply(Reply("get", status, headers, None))
        assert isinstance(silent, NoAnswer)
        assert silent.retry_after == wait


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_raises_or_silences_us_for_long(asked: str, sent: str) -> None:
    for text in (asked, f"{asked}{LATER}", LATER):
        wait = retry_after({"Retry-After": text, "Date": sent})
        assert wait is None or timedelta(0) <= wait <= MOST_RETRY_AFTER
    our_address({"x-ms-keyvault-network-info": f"addr={asked};{sent}"})


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("conn_type=Ipv4;addr=203.0.113.7;act_addr_fam=InterNetwork;", "203.0.113.7"),
        ("conn_type=Ipv6;addr=2001:db8::7", "2001:db8::7"),
        ("addr=203.0.113.7", "203.0.113.7"),
        ("addr=203.0.113.999;", None),
        ("act_addr=203.0.113.7;", None),
        ("addr=<script>;", None),
        ("", None),
    ],
)
def test_our_own_address_is_in_the_evidence_of_network_rules_and_of_nothing_else(
    told: str, address: str | None
) -> None:
    headers = {"x-ms-request-id": "8d2f", "x-ms-keyvault-network-info": told}
    assert our_address(headers) == address

    def forbidden(inner: str) -> dict[str, object]:
        return {"error": {"code": "Forbidden", "message": "no", "innererror": {"code": inner}}}

    assert classify_reply(Reply("get", 403, headers, forbidden("ForbiddenByFirewall"))).evidence.address == address
    assert classify_reply(Reply("get", 403, headers, forbidden("ForbiddenByRbac"))).evidence.address is None


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime(2026, 11, 5, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


async def test_the_time_of_vaults_is_told_once_a_second_from_genuine_answers_alone(
    to_double: Outbound, double: Double, tokens: Tokens, service_over: ServiceOver
) -> None:
    told, clock = [], Clock()
    dates = VaultDates(clock, lambda host, ahead: told.append((host, ahead)))
    service = service_over(to_double.kept, tokens, vaults=VaultSettings(), bystanders=Bystanders(dates=dates))
    double.answers = [
        challenge(TENANT),
        answer(404, GONE, x_ms_request_id="", date=LATER),
        answer(404, GONE, date=LATER),
    ]
    for _ in range(4):
        await service.get(target())
    assert told == [(target().key.host, -90 * SECOND)]
    clock.seconds += 1
    await service.get(target())
    assert len(told) == 2


@pytest.mark.parametrize(
    "date", [None, "", "nonsense", "Thu, 05 Nov 2026 12:01:30", "Thu, 99 Nov 2026 12:01:30 GMT", *BEYOND]
)
def test_a_date_that_is_none_is_passed_over(date: str | None) -> None:
    told = []
    dates = VaultDates(Clock(), lambda *word: told.append(word))
    dates.answered(VaultHost("contoso.vault.azure.net"), date)
    assert told == []
    dates.answered(VaultHost("contoso.vault.azure.net"), NOON)
    assert len(told) == 1
