"""Whose trouble it is: a tenant that does not let us in, our own credential, the way to it. All of it is bounded."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from byokd.adapters.identity import credentials as module
from byokd.adapters.identity.classify import WITHDRAWN
from byokd.adapters.identity.slots import WITHDRAWN_FOR
from byokd.adapters.identity.standings import AT_ONCE
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.emulator import FaultKind
from byokd.ports import ConsentWithdrawnError, TokenUnavailableError
from identity.platform import APPLICATIONS, CONTOSO, FABRIKAM, SCOPE, Platform, claims_of
from identity.proofs import own_certificate

THIRD = TenantId("55555555-5555-5555-5555-555555555555")
FOURTH = TenantId("66666666-6666-6666-6666-666666666666")
Happening = Callable[[Platform, str], Awaitable[object]]


async def withdrawn(platform: Platform, name: str) -> None:
    await platform.emulator.control.change_application(name, withdraw=CONTOSO)


async def disabled(platform: Platform, name: str) -> None:
    await platform.emulator.control.change_application(name, disable_in=CONTOSO)


async def closed(platform: Platform, name: str) -> None:
    del name
    await platform.emulator.control.remove_tenant(CONTOSO)


async def deleted(platform: Platform, name: str) -> None:
    await platform.emulator.control.delete_principal(name)


def says(number: int, status: int = 401) -> Happening:
    async def answer(platform: Platform, name: str) -> None:
        del name
        await platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=status, inner=str(number))

    return answer


def suffers(target: str, kind: FaultKind, **more: object) -> Happening:
    async def fault(platform: Platform, name: str) -> None:
        del name
        await platform.emulator.control.set_fault(target, kind, **more)  # type: ignore[arg-type]

    return fault


DENIALS: dict[int, Happening] = {7000229: withdrawn, 7000112: disabled, 90002: closed, 700016: deleted}
OURS = (50013, 50027, 70021, 70025, 700024, 700027, 700211, 700212, 700213, 7000215, 7000222)
NEITHER = (53003, 500011, 90055, 999999)


def test_every_number_that_counts_is_brought_about() -> None:
    assert set(DENIALS) == set(WITHDRAWN)


async def failure(platform: Platform, name: str, tenant: TenantId = CONTOSO) -> TokenUnavailableError:
    with pytest.raises(TokenUnavailableError) as raised:
        await platform.token(name, tenant=tenant)
    return raised.value


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("number", DENIALS)
async def test_the_pinned_tenants_word_is_a_denial_for_that_tenant_alone(
    platform: Platform, name: str, number: int
) -> None:
    await DENIALS[number](platform, name)
    denied = await failure(platform, name)
    assert (type(denied), denied.code) == (ConsentWithdrawnError, f"AADSTS{number}")
    if number != 700016:
        assert claims_of(await platform.token(name, tenant=FABRIKAM))["tid"] == FABRIKAM


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("number", [*OURS, *NEITHER])
async def test_every_other_number_is_none(platform: Platform, name: str, number: int) -> None:
    await says(number)(platform, name)
    trouble = await failure(platform, name)
    assert (type(trouble), trouble.code) == (TokenUnavailableError, f"AADSTS{number}")


@pytest.mark.parametrize(
    "happens",
    [
        suffers("managed-identity", FaultKind.UNAVAILABLE),
        suffers("managed-identity", FaultKind.HANG),
        suffers("managed-identity", FaultKind.RESET),
        suffers("managed-identity", FaultKind.PROXY_PAGE),
        suffers("managed-identity", FaultKind.TRUNCATED),
        suffers(
            "managed-identity",
            FaultKind.ANSWER,
            status=400,
            code="unauthorized_client",
            message="AADSTS700016: Application was not found in the directory",
        ),
        lambda platform, _: platform.emulator.control.detach_identity("user"),
        lambda platform, _: platform.emulator.control.delete_principal("user"),
    ],
    ids=["unavailable", "hangs", "reset", "proxy", "half an answer", "speaks of a tenant", "taken away", "deleted"],
)
@pytest.mark.parametrize("endpoint", ["imds", "app service"])
async def test_the_managed_identitys_step_is_never_a_denial(
    platform: Platform, happens: Happening, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if endpoint == "app service":
        for variable, value in platform.emulator.app_service_environment().items():
            monkeypatch.setenv(variable, value)
    monkeypatch.setattr(module, "FETCH_TIMEOUT", timedelta(milliseconds=300))
    await happens(platform, "vendor")
    trouble = await failure(platform, "vendor")
    assert type(trouble) is TokenUnavailableError
    assert trouble.code.endswith(".via-user")
    assert platform.asked() == 0


async def test_an_expired_certificate_is_ours_and_not_the_tenants(platform: Platform) -> None:
    ended = own_certificate(platform.certificate, ends_in=timedelta(hours=-1))
    made = await platform.emulator.control.create_application(
        "ended", certificates=[ended.public], consented=[CONTOSO, FABRIKAM]
    )
    changed = platform.identities["certified"].model_copy(update={"client_id": made["client_id"]})
    platform.credentials._identities = {"certified": changed}
    trouble = await failure(platform, "certified")
    assert (type(trouble), trouble.code) == (TokenUnavailableError, "AADSTS700027")


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_withdrawn_consent_is_asked_about_anew_before_it_can_confirm_itself(
    platform: Platform, name: str
) -> None:
    await withdrawn(platform, name)
    for asked in (1, 2, 3):
        for _ in range(5):
            assert type(await failure(platform, name)) is ConsentWithdrawnError
        assert platform.asked() == asked
        platform.clock.ahead += WITHDRAWN_FOR.total_seconds()
    await platform.emulator.control.change_application(name, consent=CONTOSO)
    assert await platform.token(name)


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_a_tenant_that_refuses_is_left_alone_for_longer_and_longer_and_holds_up_no_other(
    platform: Platform, name: str
) -> None:
    assert await platform.token(name, tenant=FABRIKAM)
    await platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=400, inner="53003")
    for asked, wait in enumerate([1, 2, 4, 8, 16, 30, 30], start=2):
        assert (await failure(platform, name)).code == "AADSTS53003"
        platform.clock.ahead += wait - 0.1
        assert (await failure(platform, name)).code == "AADSTS53003"
        assert platform.asked() == asked
        platform.clock.ahead += 0.2
    await failure(platform, name, THIRD)
    assert platform.asked() == asked + 1, "who has not been refused yet asks"


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_trouble_of_ours_that_two_tenants_meet_is_found_out_once_for_all(platform: Platform, name: str) -> None:
    await says(700027)(platform, name)
    tenants = [TenantId(f"{number:08x}-0000-0000-0000-000000000001") for number in range(200)]
    assert (await failure(platform, name, tenants[0])).code == "AADSTS700027"
    assert (await failure(platform, name, tenants[1])).code == "AADSTS700027"
    for wait in (1, 2, 4, 8, 16, 30, 30):
        asked = platform.asked()
        failures = await platform.all_of(name, tenants[2:])
        assert {error.code for error in failures if isinstance(error, TokenUnavailableError)} == {"AADSTS700027"}
        assert platform.asked() == asked, "nobody asks"
        platform.clock.ahead += wait + 0.1
        await platform.all_of(name, tenants[2:])
        assert 1 <= platform.asked() - asked <= AT_ONCE, "a few find out whether it is over"
    await platform.emulator.control.clear_faults()
    platform.clock.ahead += 31
    assert await platform.token(name)
    assert await platform.token(name, tenant=FABRIKAM)


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_trouble_of_ours_in_one_tenant_alone_holds_up_nobody_else(platform: Platform, name: str) -> None:
    await platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=401, inner="700027", count=1)
    assert (await failure(platform, name)).code == "AADSTS700027"
    assert await platform.token(name, tenant=FABRIKAM)
    assert (await failure(platform, name)).code == "AADSTS700027", "its own backoff goes on"
    platform.clock.ahead = 1.1
    assert await platform.token(name)


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_tenants_that_refuse_hold_up_nobody_however_many_they_are(platform: Platform, name: str) -> None:
    for tenant in (CONTOSO, FABRIKAM):
        await platform.emulator.control.change_application(name, withdraw=tenant)
        await failure(platform, name, tenant)
    await platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=400, inner="53003", count=2)
    for number in (1, 2):
        await failure(platform, name, TenantId(f"{number:08x}-0000-0000-0000-000000000001"))
    await platform.emulator.control.change_application(name, consent=THIRD)
    assert claims_of(await platform.token(name, tenant=THIRD))["tid"] == THIRD


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_a_success_between_tells_that_it_is_not_the_identity(platform: Platform, name: str) -> None:
    await platform.emulator.control.change_application(name, consent=THIRD)
    await platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=401, inner="700027", count=1)
    await failure(platform, name)
    assert await platform.token(name, tenant=THIRD)
    await platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=401, inner="700027", count=1)
    await failure(platform, name, FABRIKAM)
    platform.clock.ahead = 0.5
    await platform.emulator.control.change_application(name, consent=FOURTH)
    assert await platform.token(name, tenant=FOURTH)


async def test_an_assertion_that_entra_refuses_is_not_shown_for_ever(platform: Platform) -> None:
    await platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=401, inner="700024", count=2)
    await failure(platform, "vendor")
    platform.clock.ahead = 2
    await failure(platform, "vendor")
    assert platform.asked("managed-identity") == 1, "not again and again"
    platform.clock.ahead = 31
    assert await platform.token("vendor")
    assert platform.asked("managed-identity") == 2


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_what_a_tenant_said_earlier_is_not_repeated_while_nobody_can_ask(platform: Platform, name: str) -> None:
    await withdrawn(platform, name)
    assert type(await failure(platform, name)) is ConsentWithdrawnError
    await says(700027)(platform, name)
    for tenant in (FABRIKAM, THIRD):
        await failure(platform, name, tenant)
    platform.clock.ahead = WITHDRAWN_FOR.total_seconds()
    platform.credentials._standings[IdentityName(name)].held_until = 100.0
    trouble = await failure(platform, name)
    assert (type(trouble), trouble.code) == (TokenUnavailableError, "AADSTS700027")


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_an_endpoint_that_hangs_is_found_out_by_a_few(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FETCH_TIMEOUT", timedelta(milliseconds=300))
    await platform.token("user", scope="api://AzureADTokenExchange/.default")
    await platform.emulator.control.set_fault("entra", FaultKind.HANG)
    tenants = [TenantId(f"{number:08x}-0000-0000-0000-000000000001") for number in range(100)]
    failures = await platform.all_of(name, tenants)
    assert all(isinstance(error, TokenUnavailableError) for error in failures)
    assert {getattr(error, "code", "") for error in failures} <= {"TimeoutError", "TokensQueued"}
    slots = platform.credentials._slots
    found_out_by = sum(slot.failures for slot in slots._slots.values())
    assert found_out_by <= AT_ONCE + 1, "the first to fail could have been alone in it, so one more gets its turn"
    again = await asyncio.wait_for(platform.all_of(name, tenants), timeout=0.25)
    assert all(isinstance(error, TokenUnavailableError) for error in again), "all fail at once"


async def test_the_least_recently_used_token_goes_and_azure_identity_keeps_none(platform: Platform) -> None:
    tenants = [TenantId(f"{number:08x}-0000-0000-0000-000000000001") for number in range(12)]
    credentials = platform.other(most_tokens=5)
    for name in APPLICATIONS:
        for tenant in tenants:
            await platform.emulator.control.change_application(name, consent=tenant)

    async def ask(name: str, tenant: TenantId) -> str:
        return await credentials.token(IdentityName(name), scope=SCOPE, tenant=tenant)

    first = await ask("certified", tenants[0])
    for name in APPLICATIONS:
        for tenant in tenants:
            await ask(name, tenant)
            assert await ask("certified", tenants[0]) == first, "in use all the time"
            assert len(credentials._slots) <= 5
    asked = platform.asked()
    await ask("vendor", tenants[-1])
    assert platform.asked() == asked
    assert claims_of(await ask("pods", tenants[1]))["tid"] == tenants[1]
    assert platform.asked() == asked + 1
    for name in APPLICATIONS:
        client = credentials._sources[name]._client  # type: ignore[attr-defined]
        assert client.get_cached_access_token([SCOPE], tenant_id=tenants[-1], enable_cae=True) is None
        assert client._cache is client._cae_cache is not None
        assert not vars(client._cache)
    await credentials.close()
