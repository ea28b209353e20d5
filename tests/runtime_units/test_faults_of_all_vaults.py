"""What befalls all vaults is our own trouble: the way to them, or our clock."""

import pytest

from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.runtime.streaks import MANY
from runtime_units.fault_site import CLOCK, MINUTE, OPENED, TIMED_OUT, VAULTS, Site, refusal, silence, target


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.parametrize(
    ("reason", "fault", "words"),
    [
        (Reason.TIMED_OUT, "network", "no vault answers"),
        (Reason.CONNECTION_FAILED, "network", "no vault answers"),
        (Reason.NAME_NOT_RESOLVED, "dns", "no vault's name resolves"),
        (Reason.TLS_FAILED, "tls", "no vault's certificate can be verified"),
        (Reason.FOREIGN_ANSWER, "proxy", "something else answers in place of the vaults"),
        (Reason.VAULT_ERROR, "proxy", "something else answers in place of the vaults"),
    ],
)
def test_what_befalls_all_vaults_is_ours(site: Site, reason: Reason, fault: str, words: str) -> None:
    for vault in (1, 2, 3):
        site.hear(vault, OPENED)
    site.after(60)
    for vault in (1, 2):
        site.hear(vault, silence(reason))
    site.after(11)
    assert site.trouble(VAULTS) is None, "one has not had its turn"
    site.hear(3, silence(reason))
    site.after(1)
    assert site.trouble(VAULTS) == f"{words} since 2026-03-01T12:01:00.250Z: {reason} (3 vaults asked)"
    assert site.standing() == {fault: 1}
    site.hear(2, OPENED)
    assert site.trouble(VAULTS) is None
    assert site.standing() == {}


def test_mixed_silence_is_the_networks(site: Site) -> None:
    for vault, reason in enumerate((Reason.TLS_FAILED, Reason.NAME_NOT_RESOLVED)):
        site.hear(vault, silence(reason))
    site.after(11)
    assert site.standing() == {"network": 1}
    assert "NameNotResolved, TlsFailed" in site.trouble(VAULTS)


def test_vaults_whose_turn_is_far_off_are_not_waited_for_longer_than_two_rounds(site: Site) -> None:
    for vault in range(10):
        site.hear(vault, OPENED)
    for _ in range(13):
        site.hear(0, TIMED_OUT)
        site.hear(1, TIMED_OUT)
        site.after(10)
        assert (site.trouble(VAULTS) is not None) == (site.clock.seconds >= 120)


@pytest.mark.parametrize(
    "proof",
    [
        OPENED,
        refusal(RefusalKind.NETWORK_BLOCKED),
        refusal(RefusalKind.ACCESS_DENIED),
        silence(Reason.THROTTLED, request="8d2f"),
        silence(Reason.VAULT_ERROR, request="8d2f"),
    ],
)
def test_one_vault_that_answers_in_its_own_form_is_proof_that_the_way_is_open(site: Site, proof: object) -> None:
    for _ in range(50):
        for vault in range(5):
            site.hear(vault, TIMED_OUT)
        site.after(5)
        site.hear(9, proof)
        site.after(3)
        assert site.trouble(VAULTS) is None


def test_few_vaults_are_remembered_and_many_are_said_to_be_many(site: Site) -> None:
    for vault in range(10_000):
        site.hear(vault, TIMED_OUT)
    site.after(11)
    assert site.trouble(VAULTS).endswith(f"({MANY} or more vaults asked)")
    assert site.faults._vaults.count == MANY


def test_our_clock_is_off_when_two_vaults_say_so_and_right_as_soon_as_one_does(site: Site) -> None:
    for vault in (1, 2):
        site.hear(vault, OPENED)
    site.faults.hear_time(target(1).key.host, 6 * MINUTE)
    site.after(11)
    assert site.trouble(CLOCK) is None, "it may be that vault's"
    site.faults.hear_time(target(2).key.host, 7 * MINUTE)
    site.after(1)
    assert site.trouble(CLOCK) == "this machine's clock is 420 s ahead of the vaults'"
    assert site.standing() == {"clock": 1}
    site.faults.hear_time(target(2).key.host, -5 * MINUTE)
    assert site.trouble(CLOCK) is None
    site.faults.hear_time(target(1).key.host, -6 * MINUTE)
    site.faults.hear_time(target(2).key.host, -6 * MINUTE)
    site.after(11)
    assert site.trouble(CLOCK) == "this machine's clock is 360 s behind the vaults'"
