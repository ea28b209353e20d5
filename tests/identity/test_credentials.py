"""Tokens for the identities of the operator, from the emulator's endpoints through the real package."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from byokd.adapters.identity import credentials as module
from byokd.adapters.identity.credentials import Credentials, IdentityUnknownError, TokenUnavailableError
from byokd.adapters.keyvault.transport import Outbound
from byokd.emulator import Emulator, FaultKind, PrincipalKind
from byokd.settings import IdentitySettings, NetworkSettings, VaultSettings

SCOPE = "https://vault.azure.net/.default"
TENANT = "11111111-1111-1111-1111-111111111111"
ENDPOINT = "managed-identity"


class Clock:
    """The real time, moved on by hand: the package compares expiry with its own clock."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return self.ahead

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps for {seconds} s")


class Machine:
    def __init__(self, emulator: Emulator, outbound: Outbound) -> None:
        self.emulator = emulator
        self.clock = Clock()
        settings = {
            "platform": IdentitySettings(),
            "second": IdentitySettings(client_id="00000000-0000-0000-0000-00000000dead"),
        }
        self.credentials = Credentials(settings, outbound.tokens, clock=self.clock)

    async def token(
        self, identity: str = "platform", *, tenant: str | None = TENANT, scope: str = SCOPE, **more: str
    ) -> str:
        return await self.credentials.token(identity, scope=scope, tenant=tenant, **more)

    @property
    def fetched(self) -> int:
        return self.emulator.world.calls.total(target=ENDPOINT)


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    async with Emulator.start(state_dir=tmp_path / "emulator") as emulator:
        for name, value in emulator.imds_environment().items():
            monkeypatch.setenv(name, value)
        async with Outbound(VaultSettings(), NetworkSettings()) as outbound:
            machine = Machine(emulator, outbound)
            yield machine
            await machine.credentials.close()


async def test_ten_thousand_who_wait_share_one_fetch(machine: Machine) -> None:
    tokens = await asyncio.gather(*(machine.token(tenant=f"tenant-{number}") for number in range(10_000)))
    assert len(set(tokens)) == 1
    assert machine.fetched == 1


async def test_scopes_have_tokens_of_their_own(machine: Machine) -> None:
    other = await machine.token(scope="https://management.azure.com/.default")
    assert other != await machine.token()
    assert machine.fetched == 2


async def test_user_assigned_identities_by_client_id(machine: Machine) -> None:
    principal = await machine.emulator.control.create_identity("second", kind=PrincipalKind.USER_ASSIGNED)
    settings = {"second": IdentitySettings(client_id=principal["client_id"])}
    credentials = Credentials(settings, machine.credentials._transport, clock=machine.clock)
    assert await credentials.token("second", scope=SCOPE, tenant=TENANT) != await machine.token()
    await credentials.close()


async def test_app_services_endpoint(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in machine.emulator.app_service_environment().items():
        monkeypatch.setenv(name, value)
    assert await machine.token()


async def test_a_token_is_renewed_before_it_expires(machine: Machine) -> None:
    await machine.emulator.control.set_token_seconds(identity=3600)
    first = await machine.token()
    machine.clock.ahead = 3600 - 301
    assert await machine.token() == first
    machine.clock.ahead = 3600 - 299
    assert await machine.token() != first
    assert machine.fetched == 2


async def test_a_token_that_cannot_be_renewed_is_used_until_shortly_before_its_end(machine: Machine) -> None:
    await machine.emulator.control.set_token_seconds(identity=3600)
    first = await machine.token()
    await machine.emulator.control.set_fault(ENDPOINT, FaultKind.UNAVAILABLE)
    machine.clock.ahead = 3600 - 60
    assert await machine.token() == first
    machine.clock.ahead = 3600 - 20
    with pytest.raises(TokenUnavailableError) as raised:
        await machine.token()
    assert raised.value.code == "HTTP503"


async def test_a_failing_endpoint_is_asked_once_and_then_left_alone_for_longer_and_longer(machine: Machine) -> None:
    await machine.emulator.control.set_fault(ENDPOINT, FaultKind.UNAVAILABLE)
    for expected, wait in enumerate([1, 2, 4, 8, 16, 30, 30], start=1):
        failed = await asyncio.gather(*(machine.token() for _ in range(200)), return_exceptions=True)
        assert all(isinstance(failure, TokenUnavailableError) for failure in failed)
        assert machine.fetched == expected
        machine.clock.ahead += wait - 0.1
        with pytest.raises(TokenUnavailableError):
            await machine.token()
        assert machine.fetched == expected
        machine.clock.ahead += 0.2
    await machine.emulator.control.clear_faults()
    assert await machine.token()


async def test_an_endpoint_that_hangs_fails_before_a_check_does(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timedelta(seconds=5) > module.FETCH_TIMEOUT
    monkeypatch.setattr(module, "FETCH_TIMEOUT", timedelta(milliseconds=20))
    await machine.emulator.control.set_fault(ENDPOINT, FaultKind.HANG)
    failed = await asyncio.gather(*(machine.token() for _ in range(20)), return_exceptions=True)
    assert {failure.code for failure in failed} == {"TimeoutError"}
    assert machine.fetched <= 1


async def test_the_deadline_of_one_who_waits_leaves_the_others_alone(machine: Machine) -> None:
    await machine.emulator.control.set_fault(ENDPOINT, FaultKind.LATENCY, seconds=0.2, count=1)

    async def impatient() -> None:
        async with asyncio.timeout(0.05):
            await machine.token()

    first, second = await asyncio.gather(impatient(), machine.token(), return_exceptions=True)
    assert isinstance(first, TimeoutError)
    assert isinstance(second, str)


async def test_an_identity_that_the_machine_does_not_have(machine: Machine) -> None:
    with pytest.raises(TokenUnavailableError) as raised:
        await machine.token("second")
    assert raised.value.code == "CredentialUnavailableError"


async def test_an_identity_that_is_not_configured(machine: Machine) -> None:
    with pytest.raises(IdentityUnknownError) as raised:
        await machine.token("third")
    assert raised.value.code == "IdentityUnknown"
    assert machine.fetched == 0


@pytest.mark.parametrize("why", ["rejected", "claims"])
async def test_a_new_token_on_demand_but_not_again_and_again(machine: Machine, why: str) -> None:
    first = await machine.token()
    demand = {"rejected": first} if why == "rejected" else {"claims": '{"access_token":{}}'}
    assert await machine.token(**demand) == first
    machine.clock.ahead = 31
    second = await machine.token(**demand)
    assert second != first
    assert machine.fetched == 2
    for _ in range(10):
        assert await machine.token(claims="{}") == second
        assert await machine.token(rejected=second) == second
        assert await machine.token(rejected=first) == second
    assert machine.fetched == 2


async def test_a_rejected_token_that_cannot_be_replaced_is_trouble_with_the_token_for_no_longer_than_that(
    machine: Machine,
) -> None:
    first = await machine.token()
    await machine.emulator.control.set_fault(ENDPOINT, FaultKind.UNAVAILABLE)
    machine.clock.ahead = 31
    for _ in range(2):
        failed = await asyncio.gather(*(machine.token(rejected=first) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(failure, TokenUnavailableError) for failure in failed)
        assert {failure.code for failure in failed} != {"Expired"}
    assert machine.fetched == 2, "the failure is remembered for a second"
    assert await machine.token() == first, "who was not rejected goes on"
    await machine.emulator.control.clear_faults()
    machine.clock.ahead = 32.1
    second = await machine.token(rejected=first)
    assert second != first
    assert machine.fetched == 3


async def test_nothing_is_shown(machine: Machine) -> None:
    token = await machine.token()
    assert token not in repr(vars(machine.credentials))
