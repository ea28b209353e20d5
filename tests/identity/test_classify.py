"""What token errors mean: exceptions of the real credential classes, made by the emulator's Entra ID."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import CredentialUnavailableError
from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential, ManagedIdentityCredential
from hypothesis import given
from hypothesis import strategies as st

from byokd.adapters.identity.classify import OUR_CREDENTIAL, WITHDRAWN, TokenFault, classify_token_error
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.identifiers import TenantId
from byokd.emulator import Emulator, FaultKind, KeyMaker
from byokd.settings import NetworkSettings, VaultSettings

SCOPE = "https://vault.azure.net/.default"
CUSTOMER = TenantId("33333333-3333-3333-3333-333333333333")
OTHER = TenantId("44444444-4444-4444-4444-444444444444")
APPLICATION = "55555555-5555-5555-5555-555555555555"
SECRET = "good"
SHARED_KEYS = KeyMaker(pool=2)


class Entra:
    """An application that the customer's tenant let in, and its ways to a token."""

    def __init__(self, emulator: Emulator, outbound: Outbound) -> None:
        self.emulator = emulator
        self.control = emulator.control
        self.outbound = outbound

    def secret(
        self, *, tenant: str = CUSTOMER, client: str = APPLICATION, secret: str = SECRET
    ) -> AsyncTokenCredential:
        return ClientSecretCredential(tenant, client, secret, transport=self.outbound.tokens, retry_total=0)

    def assertion(self, *, client: str = APPLICATION) -> AsyncTokenCredential:
        transport = self.outbound.tokens
        return ClientAssertionCredential(CUSTOMER, client, lambda: "no.real.token", transport=transport, retry_total=0)

    def machine(self) -> AsyncTokenCredential:
        return ManagedIdentityCredential(transport=self.outbound.tokens, retry_total=0, retry_status=0)


@pytest.fixture
async def entra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Entra]:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    async with Emulator.start(state_dir=tmp_path / "emulator", keys=SHARED_KEYS) as emulator:
        for name, value in emulator.imds_environment().items():
            monkeypatch.setenv(name, value)
        await emulator.control.create_application(
            "platform", client_id=APPLICATION, secret=SECRET, consented=[CUSTOMER, OTHER]
        )
        network = NetworkSettings(ca_file=emulator.ca_file, connect_to=emulator.connect_to)
        async with Outbound(VaultSettings(), network) as outbound:
            yield Entra(emulator, outbound)


async def nothing(entra: Entra) -> None:
    """Azure is as it should be."""


def says(status: int, number: str, **more: str) -> Callable[[Entra], Coroutine[Any, Any, None]]:
    """Entra answers with an AADSTS number."""

    async def answer(entra: Entra) -> None:
        await entra.control.set_fault("entra", FaultKind.ANSWER, status=status, inner=number, **more)

    return answer


def suffers(target: str, kind: FaultKind, **more: str | int) -> Callable[[Entra], Coroutine[Any, Any, None]]:
    async def fault(entra: Entra) -> None:
        await entra.control.set_fault(target, kind, **more)  # type: ignore[arg-type]

    return fault


def is_disabled(entra: Entra) -> Coroutine[Any, Any, Any]:
    return entra.control.change_application("platform", disabled=True)


def is_thrown_out(entra: Entra) -> Coroutine[Any, Any, Any]:
    return entra.control.change_application("platform", withdraw=CUSTOMER)


def tenant_is_closed(entra: Entra) -> Coroutine[Any, Any, Any]:
    return entra.control.remove_tenant(CUSTOMER)


secret, assertion, machine = Entra.secret, Entra.assertion, Entra.machine

TABLE = [
    # situation, what happens, who asks, code, withdrawn
    ("consent is withdrawn", is_thrown_out, secret, "AADSTS7000229", True),
    ("the same, by assertion", is_thrown_out, assertion, "AADSTS7000229", True),
    ("the application is disabled", is_disabled, secret, "AADSTS7000112", True),
    ("the application is not there", nothing, lambda entra: entra.secret(client=str(OTHER)), "AADSTS700016", True),
    ("the tenant is gone", tenant_is_closed, secret, "AADSTS90002", True),
    (
        "another tenant is gone",
        tenant_is_closed,
        lambda entra: entra.secret(tenant=str(CUSTOMER)[::-1]),
        "AADSTS90002",
        False,
    ),
    ("our secret is wrong", nothing, lambda entra: entra.secret(secret="bad"), "AADSTS7000215", False),
    ("our secret has expired", says(401, "AADSTS7000222"), secret, "AADSTS7000222", False),
    ("our assertion is malformed", nothing, assertion, "AADSTS50027", False),
    ("our assertion is out of its time: a clock", says(401, "AADSTS700024"), secret, "AADSTS700024", False),
    ("our certificate is not registered", says(401, "AADSTS700027"), secret, "AADSTS700027", False),
    ("our federation is not trusted", says(401, "AADSTS700213"), secret, "AADSTS700213", False),
    ("conditional access blocks us", says(400, "AADSTS53003"), secret, "AADSTS53003", False),
    ("Key Vault is not known in the tenant", says(400, "AADSTS500011"), secret, "AADSTS500011", False),
    ("a number that nobody knows", says(400, "AADSTS999999"), secret, "AADSTS999999", False),
    ("a code in the text alone", says(400, "AADSTS1", message="AADSTS700016: not found"), secret, "AADSTS1", False),
    ("Entra throttles", suffers("entra", FaultKind.THROTTLE), secret, "AADSTS90055", False),
    ("Entra fails", suffers("entra", FaultKind.SERVER_ERROR), secret, "AADSTS90033", False),
    ("a proxy answers", suffers("entra", FaultKind.PROXY_PAGE), secret, "ClientAuthenticationError", False),
    ("half an answer", suffers("entra", FaultKind.TRUNCATED), secret, None, False),
    ("the connection is reset", suffers("entra", FaultKind.RESET), secret, "ServiceRequestError", False),
    ("the machine's endpoint fails", suffers("managed-identity", FaultKind.SERVER_ERROR), machine, "HTTP500", False),
    (
        "the machine's endpoint is unavailable",
        suffers("managed-identity", FaultKind.UNAVAILABLE),
        machine,
        "HTTP503",
        False,
    ),
    ("the machine's endpoint throttles", suffers("managed-identity", FaultKind.THROTTLE), machine, "HTTP429", False),
    (
        "the way to the machine's endpoint breaks",
        suffers("managed-identity", FaultKind.RESET),
        machine,
        "ServiceRequestError",
        False,
    ),
    ("a proxy before the machine", suffers("managed-identity", FaultKind.PROXY_PAGE), machine, "ForeignAnswer", False),
    (
        "the machine's endpoint speaks of its own tenant",
        suffers(
            "managed-identity", FaultKind.ANSWER, status=400, code="unauthorized_client", message="AADSTS700016: no"
        ),
        machine,
        "CredentialUnavailableError",
        False,
    ),
]


@pytest.mark.parametrize(
    ("happens", "who", "code", "withdrawn"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
async def test_token_errors(
    entra: Entra,
    happens: Callable[[Entra], Coroutine[Any, Any, Any]],
    who: Callable[[Entra], AsyncTokenCredential],
    code: str | None,
    withdrawn: bool,  # noqa: FBT001 - a column
) -> None:
    await happens(entra)
    async with who(entra) as credential:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - of whatever kind
            await credential.get_token_info(SCOPE)
    fault = classify_token_error(raised.value, tenant=CUSTOMER)
    assert (fault.code, fault.withdrawn) == (code or type(raised.value).__name__, withdrawn)
    assert not (fault.ours and fault.withdrawn)
    assert not classify_token_error(raised.value, tenant=None).withdrawn, "no tenant was asked"


@pytest.mark.parametrize(
    ("status", "number", "ours"),
    [(400, 53003, False), (400, 500011, False), (400, 1, False), (500, 1, True), (429, 1, True), (503, 90033, True)]
    + [(401, number, True) for number in sorted(OUR_CREDENTIAL)]
    + [(400, number, False) for number in sorted(WITHDRAWN)],
)
def test_whose_trouble_an_answer_is(status: int, number: int, ours: bool) -> None:  # noqa: FBT001 - a column
    response = Response(json.dumps({"error": "x", "error_codes": [number]}))
    response.status_code = status
    error = ClientAuthenticationError(message="no", response=response)
    assert classify_token_error(error, tenant=CUSTOMER).ours is ours
    assert classify_token_error(error, tenant=OTHER).ours, "it was not asked"


def test_the_table_has_every_number_that_counts() -> None:
    assert {row[3] for row in TABLE if row[4]} == {f"AADSTS{number}" for number in WITHDRAWN}


@pytest.mark.parametrize(
    "error",
    [
        CredentialUnavailableError(message="AADSTS700016: Application not found"),
        ClientAuthenticationError(message="AADSTS7000229"),
        ServiceRequestError("AADSTS90002"),
        TimeoutError(),
        RuntimeError("AADSTS7000112"),
    ],
)
def test_without_an_answer_of_entra_nothing_is_withdrawn(error: Exception) -> None:
    assert classify_token_error(error, tenant=CUSTOMER) == TokenFault(type(error).__name__, withdrawn=False)


class Response:
    """What an exception carries, with any body at all."""

    reason, status_code = "Bad Request", 400

    class request:  # noqa: N801 - as in azure-core
        url = f"https://login.microsoftonline.com/{CUSTOMER}/oauth2/v2.0/token"

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self, encoding: str | None = None) -> str:  # noqa: ARG002 - as in azure-core
        return self._text


NUMBERS = st.sampled_from([*WITHDRAWN, 7000215, 50027, True, "700016", None, 1.5, [700016]])


@given(
    st.recursive(
        NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "error_codes"]), inner)
    )
)
def test_no_body_raises_and_only_numbers_that_all_count_are_believed(document: object) -> None:
    error = ClientAuthenticationError(message="no", response=Response(json.dumps(document)))
    codes = document.get("error_codes") if isinstance(document, dict) else None
    believed = isinstance(codes, list) and bool(codes) and all(type(one) is int and one in WITHDRAWN for one in codes)
    assert classify_token_error(error, tenant=CUSTOMER).withdrawn == (believed and "error" in document)
