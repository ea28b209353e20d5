import ssl
from typing import Any

import pytest
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientOSError,
    ClientPayloadError,
    ClientResponseError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
    SocketTimeoutError,
)
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.adapters.keyvault.classify import Reply, classify_reply, classify_trouble, wrong_tenant
from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.vocabulary import Reason, RefusalKind

GENUINE = {"x-ms-request-id": "8d2f1c0e-77aa-4a0e-9d1c-6f0f1f4a1b11"}
TENANT = "7c2f1c0e-77aa-4a0e-9d1c-6f0f1f4a1b22"
PLACE = ConnectionKey(
    "contoso.vault.azure.net", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)


def error(code: str, inner: str | None = None, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **({"innererror": {"code": inner}} if inner else {})}}


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (400, error("BadParameter"), RefusalKind.BAD_REQUEST),
        (401, error("Unauthorized", message="AKV10032: Invalid issuer. Expected one of"), RefusalKind.WRONG_TENANT),
        (403, error("Forbidden", "KeyDisabled"), RefusalKind.KEY_DISABLED),
        (403, error("Forbidden", "KeyOperationForbidden"), RefusalKind.OPERATION_FORBIDDEN),
        (403, error("Forbidden", "AccessDenied"), RefusalKind.ACCESS_DENIED),
        (403, error("Forbidden", "ForbiddenByPolicy"), RefusalKind.ACCESS_DENIED),
        (403, error("Forbidden", "ForbiddenByRbac"), RefusalKind.ACCESS_DENIED),
        (403, error("Forbidden", "SomethingNew"), RefusalKind.ACCESS_DENIED),
        (403, error("Forbidden"), RefusalKind.ACCESS_DENIED),
        (403, {"error": {"code": "Forbidden", "innererror": "odd"}}, RefusalKind.ACCESS_DENIED),
        (403, error("Forbidden", "ForbiddenByFirewall"), RefusalKind.NETWORK_BLOCKED),
        (403, error("Forbidden", "ForbiddenByConnection"), RefusalKind.NETWORK_BLOCKED),
        (404, error("KeyNotFound"), RefusalKind.NOT_FOUND),
    ],
)
def test_genuine_refusals(status: int, document: object, kind: RefusalKind) -> None:
    answer = classify_reply(Reply("unwrapKey", status, GENUINE, document))
    assert isinstance(answer, Refused)
    assert answer.kind is kind
    assert (answer.evidence.operation, answer.evidence.status) == ("unwrapKey", status)
    assert answer.evidence.request_id == GENUINE["x-ms-request-id"]

    region_only = classify_reply(Reply("unwrapKey", status, {"X-MS-KeyVault-Region": "westeurope"}, document))
    assert isinstance(region_only, Refused)
    for headers in ({}, {"x-ms-request-id": ""}, {"server": "squid"}):
        assert classify_reply(Reply("unwrapKey", status, headers, document)).reason is Reason.FOREIGN_ANSWER
    for page in (None, [], "no", {}, {"error": "no"}, {"error": {"message": "no"}}, {"error": {"code": 7}}):
        assert classify_reply(Reply("unwrapKey", status, GENUINE, page)).reason is Reason.FOREIGN_ANSWER


@pytest.mark.parametrize(
    ("status", "document", "reason"),
    [
        (429, error("Throttled"), Reason.THROTTLED),
        (429, None, Reason.THROTTLED),
        (500, error("InternalServerError"), Reason.VAULT_ERROR),
        (502, None, Reason.VAULT_ERROR),
        (503, error("ServiceUnavailable"), Reason.VAULT_ERROR),
        (401, error("Unauthorized", message="AKV10046: Unable to resolve the key"), Reason.UNAUTHORIZED),
        (401, error("Unauthorized", message="see AKV10032"), Reason.UNAUTHORIZED),
        (401, None, Reason.FOREIGN_ANSWER),
        (404, error("ResourceNotFound"), Reason.FOREIGN_ANSWER),
        (404, error("SecretNotFound"), Reason.FOREIGN_ANSWER),
        (405, error("MethodNotAllowed"), Reason.FOREIGN_ANSWER),
        (409, error("Conflict", "ObjectIsBeingDeleted"), Reason.FOREIGN_ANSWER),
        (204, None, Reason.FOREIGN_ANSWER),
        (301, None, Reason.FOREIGN_ANSWER),
        (307, error("Forbidden", "KeyDisabled"), Reason.FOREIGN_ANSWER),
        (407, error("Forbidden"), Reason.FOREIGN_ANSWER),
        (451, error("Forbidden"), Reason.FOREIGN_ANSWER),
    ],
)
def test_everything_else_is_no_answer(status: int, document: object, reason: Reason) -> None:
    answer = classify_reply(Reply("get", status, GENUINE, document))
    assert isinstance(answer, NoAnswer)
    assert answer.reason is reason


REFUSED = ConnectionRefusedError(111, "refused")


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (ClientConnectorDNSError(PLACE, OSError(-2, "unknown")), Reason.NAME_NOT_RESOLVED),
        (ClientConnectorCertificateError(PLACE, ssl.SSLCertVerificationError(1)), Reason.TLS_FAILED),
        (ClientConnectorSSLError(PLACE, ssl.SSLError(1)), Reason.TLS_FAILED),
        (ssl.SSLError(1), Reason.TLS_FAILED),
        (ClientConnectorError(PLACE, REFUSED), Reason.CONNECTION_FAILED),
        (ClientOSError(104, "reset"), Reason.CONNECTION_FAILED),
        (ServerDisconnectedError(), Reason.CONNECTION_FAILED),
        (REFUSED, Reason.CONNECTION_FAILED),
        (ConnectionTimeoutError(), Reason.TIMED_OUT),
        (SocketTimeoutError(), Reason.TIMED_OUT),
        (TimeoutError(), Reason.TIMED_OUT),
        (ClientPayloadError("cut"), Reason.UNREADABLE_ANSWER),
        (ClientResponseError(None, (), status=400, message="secret"), Reason.UNREADABLE_ANSWER),
        (ValueError("the secret-token-1 is odd"), Reason.UNREADABLE_ANSWER),
        (KeyError("secret"), Reason.UNREADABLE_ANSWER),
    ],
)
def test_trouble_on_the_way_is_never_a_refusal(trouble: Exception, reason: Reason) -> None:
    answer = classify_trouble("unwrapKey", trouble)
    assert isinstance(answer, NoAnswer)
    assert (answer.reason, answer.evidence.code, answer.evidence.status) == (reason, type(trouble).__name__, None)
    assert "secret" not in repr(answer)


def test_a_challenge_of_another_tenant_denies_only_when_it_is_genuine() -> None:
    document = error("Unauthorized", message="AKV10000: Request is missing a Bearer or PoP token.")
    genuine = wrong_tenant(Reply("get", 401, GENUINE, document), TENANT)
    assert isinstance(genuine, Refused)
    assert genuine.kind is RefusalKind.WRONG_TENANT
    assert genuine.evidence.told == f"its challenge names tenant {TENANT}"
    assert wrong_tenant(Reply("get", 401, {}, document), TENANT).reason is Reason.FOREIGN_ANSWER
    assert wrong_tenant(Reply("get", 401, GENUINE, None), TENANT).reason is Reason.FOREIGN_ANSWER


@pytest.mark.parametrize("tenant", ["", "organizations", "evil.example", f"{TENANT}\n", "\x1b[31m" * 9])
def test_only_a_tenants_id_is_quoted_of_a_challenge(tenant: str) -> None:
    document = error("Unauthorized", message="AKV10000: Request is missing a Bearer or PoP token.")
    assert wrong_tenant(Reply("get", 401, GENUINE, document), tenant).evidence.told is None


@pytest.mark.parametrize(
    "text",
    [
        "Forb\x1b[31midden",
        "\u202eevil\n",
        "<script>",
        "x" * 49,
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwcyJ9",
        "k7Jx0Q2mVh3n9Zp4",
        "",
    ],
)
def test_what_a_vault_throws_back_at_us_is_no_evidence(text: str) -> None:
    evidence = classify_reply(Reply("get", 403, {"x-ms-request-id": text or "8d2f"}, error(text, text))).evidence
    assert (evidence.code, evidence.inner_code) == (None, None)
    assert evidence.request_id in (None, "8d2f")


def test_codes_and_request_ids_are_evidence() -> None:
    request_id = "1F3e4f0a-2a1e-4a0c-9d0e-77f0a2b1c3d4"
    told = error("Forbidden", "ForbiddenByRbac")
    evidence = classify_reply(Reply("get", 403, {"x-ms-request-id": request_id}, told)).evidence
    assert (evidence.code, evidence.inner_code, evidence.request_id) == ("Forbidden", "ForbiddenByRbac", request_id)


CODES = st.sampled_from(["Forbidden", "KeyNotFound", "KeyDisabled", "Unauthorized", "Throttled"]) | st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CODES, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = JSON | st.fixed_dictionaries(
    {"error": JSON | st.fixed_dictionaries({"code": CODES | JSON, "message": JSON, "innererror": JSON})}
)
HEADERS = st.dictionaries(
    st.sampled_from(["x-ms-request-id", "X-MS-KeyVault-Region", "Server", "WWW-Authenticate"]), st.text(max_size=20)
)


@settings(deadline=None)
@given(st.integers(100, 999), HEADERS, DOCUMENTS)
def test_no_answer_ever_raises_or_denies_without_being_genuine(
    status: int, headers: dict[str, str], document: object
) -> None:
    reply = Reply("unwrapKey", status, headers, document)
    for answer in (classify_reply(reply), wrong_tenant(reply, TENANT)):
        assert isinstance(answer, Refused | NoAnswer)
        if isinstance(answer, Refused):
            assert headers.get("x-ms-request-id") or "X-MS-KeyVault-Region" in headers
            assert isinstance(document["error"]["code"], str)
    if isinstance(classify_reply(reply), Refused):
        assert status in (400, 401, 403, 404)
