"""What is our own trouble, and when it is said; and that no customer is blamed for it."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import KeyTarget, ServiceKey, ServiceKeyMissingError
from byokd.runtime.health import Component
from byokd.runtime.own_faults import MOST_IDENTITIES, HeardKeys
from byokd.runtime.service_keys import HeardSealer
from byokd.runtime.streaks import FORGET
from domain.scenes import facts
from runtime_units.fault_site import (
    CLOCK,
    IDENTITIES,
    MINUTE,
    NO_TOKEN,
    OPENED,
    TIMED_OUT,
    VAULTS,
    Site,
    refusal,
    silence,
    target,
)


@pytest.fixture
def site() -> Site:
    return Site()


def test_an_identity_without_tokens_is_named_with_its_code_and_since_when(site: Site) -> None:
    site.hear(1, NO_TOKEN)
    site.after(9)
    assert site.trouble(IDENTITIES) is None, "a hiccup is not news"
    site.hear(1, NO_TOKEN)
    site.after(2)
    said = "the identity platform gets no token since 2026-03-01T12:00:00.250Z: CredentialUnavailableError"
    assert site.trouble(IDENTITIES) == said
    assert site.standing() == {"token": 1}
    site.hear(1, OPENED)
    assert site.trouble(IDENTITIES) is None, "at once"
    assert site.standing() == {}


def test_it_is_logged_when_it_begins_and_when_it_ends(site: Site) -> None:
    with capture_logs() as logs:
        for _ in range(10):
            site.hear(1, NO_TOKEN)
            site.after(5)
        for _ in range(10):
            site.hear(1, OPENED)
            site.after(5)
    assert [(line["event"], line["component"]) for line in logs] == [
        ("component-in-trouble", "identities"),
        ("component-recovered", "identities"),
    ]
    assert "see that this machine has the managed identity" in logs[0]["hint"]
    assert "customers' keys are not to blame" in logs[0]["hint"]


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AADSTS700027", "the certificate has expired, or is not registered"),
        ("AADSTS700213", "the application does not trust what is shown: compare issuer, subject and audience"),
        ("FileNotFoundError", "see certificate_file and token_file"),
        ("HTTP500", "the endpoint answers, but with an error of its own, which says nothing of the identity"),
        ("HTTP429", "the endpoint has been asked too often"),
        ("ServiceRequestError", "the endpoint is not reached: see firewall, DNS and routes to it"),
        ("ForeignAnswer", "something else answers in place of the endpoint"),
        ("CredentialUnavailableError", "see that this machine has the managed identity"),
        ("CredentialUnavailableError.via-user", "no token of the managed identity user, which is shown in place of a"),
    ],
)
def test_what_to_do_about_it_goes_by_the_kind_of_trouble(site: Site, code: str, hint: str) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            site.hear(1, silence(Reason.TOKEN_UNAVAILABLE, code=code))
            site.after(6)
    assert str(logs[0]["hint"]).startswith(hint)
    assert str(site.trouble(IDENTITIES)).endswith(f"Z: {code}")


@pytest.mark.parametrize(("code", "said"), [("AADSTS53003", False), ("FileNotFoundError", True)])
def test_what_entra_says_for_one_tenant_is_not_the_identitys_trouble(site: Site, code: str, said: bool) -> None:  # noqa: FBT001 - a column
    site.hear(2, OPENED)
    for _ in range(4):
        site.hear(1, silence(Reason.TOKEN_UNAVAILABLE, code=code))
        site.after(6)
    assert (site.trouble(IDENTITIES) is not None) is said
    site.hear(2, silence(Reason.TOKEN_UNAVAILABLE, code=code))
    site.after(6)
    assert site.trouble(IDENTITIES) is not None, "two say it"


def test_a_token_for_one_customer_proves_the_identity_though_another_gets_none(site: Site) -> None:
    for _ in range(100):
        site.hear(1, NO_TOKEN)
        site.after(5)
        site.hear(2, OPENED)
        site.after(1)
    assert site.trouble(IDENTITIES) is None


def test_identities_are_apart_and_few_are_remembered(site: Site) -> None:
    site.hear(1, OPENED, identity="other")
    for number in range(3 * MOST_IDENTITIES):
        site.hear(1, NO_TOKEN, identity=f"unknown-{number}")
    site.hear(1, OPENED, identity="other")
    site.after(11)
    assert site.trouble(IDENTITIES).endswith("99 more")
    assert len(site.faults._identities) == MOST_IDENTITIES


@pytest.mark.parametrize(
    "proof", [OPENED, facts(), refusal(RefusalKind.ACCESS_DENIED), refusal(RefusalKind.KEY_DISABLED)]
)
def test_what_only_a_token_can_be_answered_with_ends_it(site: Site, proof: object) -> None:
    site.hear(1, NO_TOKEN)
    site.after(11)
    site.hear(2, proof)
    assert site.trouble(IDENTITIES) is None


@pytest.mark.parametrize(
    "other",
    [
        refusal(RefusalKind.NETWORK_BLOCKED),
        refusal(RefusalKind.WRONG_TENANT),
        refusal(RefusalKind.CONSENT_WITHDRAWN),
        refusal(RefusalKind.VAULT_NOT_FOUND),
        silence(Reason.THROTTLED, request="8d2f"),
        TIMED_OUT,
    ],
)
def test_what_needs_no_token_does_not(site: Site, other: object) -> None:
    site.hear(1, NO_TOKEN)
    site.after(11)
    site.hear(2, other)
    assert site.trouble(IDENTITIES)


def test_tokens_that_every_vault_rejects_are_the_identitys_trouble_and_those_of_one_vault_are_not(site: Site) -> None:
    rejected = silence(Reason.UNAUTHORIZED, code="Unauthorized", request="8d2f")
    site.hear(1, OPENED)
    site.hear(2, rejected)
    site.after(11)
    assert site.trouble(IDENTITIES) is None
    site.hear(1, rejected)
    site.after(1)
    assert site.trouble(IDENTITIES).startswith("the identity platform shows tokens that no vault takes since")


def test_a_host_that_is_not_allowed_is_not_the_identitys_trouble(site: Site) -> None:
    site.hear(1, silence(Reason.TOKEN_UNAVAILABLE, code="HostNotAllowed"))
    site.after(11)
    assert site.trouble(IDENTITIES) is None


def test_what_nobody_asks_about_any_more_is_forgotten(site: Site) -> None:
    site.hear(1, NO_TOKEN)
    site.hear(1, TIMED_OUT)
    site.faults.hear_time(target(1).key.host, 6 * MINUTE)
    site.after(11)
    assert all(map(site.trouble, (IDENTITIES, VAULTS, CLOCK)))
    site.after(FORGET.total_seconds())
    assert not any(map(site.trouble, (IDENTITIES, VAULTS, CLOCK)))


def test_nothing_is_said_before_anything_is_known(site: Site) -> None:
    site.after(60)
    assert site.health.conditions == {}
    site.hear(1, OPENED)
    site.after(5)
    assert {name: condition.well for name, condition in site.health.conditions.items()} == {
        IDENTITIES: True,
        VAULTS: True,
    }


ANSWERS = st.sampled_from(
    [
        OPENED,
        NO_TOKEN,
        TIMED_OUT,
        silence(Reason.TLS_FAILED),
        silence(Reason.VAULT_ERROR, request="8d2f"),
        *map(refusal, RefusalKind),
    ]
)
STEPS = st.lists(st.tuples(st.integers(0, 3), ANSWERS, st.floats(0, 200), st.integers(-9000, 9000)), max_size=40)


@settings(deadline=None, max_examples=40)
@given(STEPS)
def test_trouble_never_outlives_a_counter_proof_and_clock_steps_change_nothing(
    steps: list[tuple[int, object, float, int]],
) -> None:
    still, stepping = Site(), Site()
    answered = 0.0
    for vault, answer, gap, step in steps:
        stepping.clock.stepped = timedelta(seconds=step)
        for site in (still, stepping):
            site.hear(vault, answer)
        own = not isinstance(answer, NoAnswer) or answer.evidence.request_id is not None
        if own and getattr(answer, "kind", None) not in {RefusalKind.VAULT_NOT_FOUND, RefusalKind.CONSENT_WITHDRAWN}:
            answered = still.clock.seconds
            assert still.trouble(VAULTS) is None
        for site in (still, stepping):
            site.after(gap)
        if still.trouble(VAULTS):
            assert still.clock.seconds - answered >= 10
        for component in (IDENTITIES, VAULTS, CLOCK):
            assert (still.trouble(component) is None) == (stepping.trouble(component) is None)
        assert still.standing() == stepping.standing()


class Keys:
    """The port, answering as told."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> object:  # noqa: ARG002 - the port
        if self.answer is None:
            await asyncio.Event().wait()
        return self.answer

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> object:
        return await self.unwrap(target, plaintext)

    async def get(self, target: KeyTarget) -> object:
        return await self.unwrap(target, b"")


@pytest.mark.parametrize("answer", [OPENED, facts(), TIMED_OUT, refusal(RefusalKind.NOT_FOUND)])
async def test_listening_changes_no_answer(site: Site, answer: KeyFacts | bytes | Refused | NoAnswer) -> None:
    keys = HeardKeys(Keys(answer), site.faults)
    for operation in (keys.get(target(1)), keys.wrap(target(1), b""), keys.unwrap(target(1), b"")):
        assert await operation is answer
    assert (site.faults._silence is None) == (answer is not TIMED_OUT)


async def test_a_call_that_its_caller_gave_up_counts_as_silence(site: Site) -> None:
    keys = HeardKeys(Keys(None), site.faults)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await keys.unwrap(target(1), b"")
    site.after(11)
    assert site.trouble(VAULTS)


def test_a_missing_service_key_is_said_and_passed_on(site: Site) -> None:
    class Sealer:
        def open(self, key: ServiceKey, sealed: bytes, *, context: object) -> bytes:  # noqa: ARG002 - the port
            raise ServiceKeyMissingError(f"the {key} key '7' is not in /etc/byokd/keys")

    with pytest.raises(ServiceKeyMissingError):
        HeardSealer(Sealer(), site.health).open(ServiceKey.STORAGE, b"", context=None)
    assert site.trouble(Component.SERVICE_KEYS) == "the storage key '7' is not in /etc/byokd/keys"
