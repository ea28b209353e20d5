"""Servers that are not what they should be: what they get to see, what they can make byokd believe, what they cost."""

import asyncio
import gzip
import itertools
from collections.abc import Iterable, Iterator

import pytest

from byokd.adapters.keyvault.connections import MAX_BODY_BYTES
from byokd.adapters.keyvault.service import AzureKeyService
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import KeyTarget
from byokd.settings import NetworkSettings, VaultSettings
from keyvault.double import Double, Tokens, answer, challenge
from keyvault.way import ServiceOver

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
OTHER = "22222222-2222-2222-2222-222222222222"
VERSION = KeyVersion("0123456789abcdef0123456789abcdef")
KID = f"https://contoso.vault.azure.net/keys/k/{VERSION}"


def target(vault: str = "contoso") -> KeyTarget:
    key = KeyIdentifier(VaultHost(f"{vault}.vault.azure.net"), "k", VERSION)
    return KeyTarget(IdentityName("platform"), TENANT, key)


def error(status: int, code: str, inner: str | None = None, **headers: dict[str, str]) -> bytes:
    document = {"error": {"code": code, "message": "no", "innererror": inner and {"code": inner}}}
    return answer(status, document, **headers)


OPENED = answer(200, {"kid": KID, "value": "cHJvYmU"})


async def reason(doubtful: AzureKeyService, double: Double, *answers: bytes | Iterable[bytes]) -> Reason:
    double.answers = list(answers)
    given = await doubtful.unwrap(target(), b"wrapped-blob")
    assert isinstance(given, NoAnswer), given
    return given.reason


async def test_first_request_shows_neither_token_nor_content(doubtful: AzureKeyService, double: Double) -> None:
    double.answers = [challenge(TENANT), OPENED]
    assert await doubtful.unwrap(target(), b"wrapped-blob") == b"probe"

    first, second = double.requests
    assert "authorization" not in first.lower()
    assert first.endswith("\r\n\r\n")
    assert "Bearer secret-token-1" in second
    assert '"alg": "RSA-OAEP-256"' in second
    for request in (first, second):
        assert request.startswith(f"POST /keys/k/{VERSION}/unwrapkey?api-version=")
        assert "Host: contoso.vault.azure.net" in request


@pytest.mark.parametrize(
    ("challenged", "expected"),
    [
        (challenge("common"), Reason.FOREIGN_ANSWER),
        (challenge(TENANT, "https://vault.azure.net.evil.example"), Reason.FOREIGN_ANSWER),
        (challenge(TENANT, "https://management.azure.com"), Reason.FOREIGN_ANSWER),
        (challenge(TENANT, "https://azure.net"), Reason.FOREIGN_ANSWER),
        (challenge(TENANT, ""), Reason.FOREIGN_ANSWER),
        (challenge(TENANT, x_ms_request_id=""), Reason.FOREIGN_ANSWER),
        (challenge(OTHER, x_ms_request_id=""), Reason.FOREIGN_ANSWER),
        (error(401, "Unauthorized"), Reason.UNAUTHORIZED),
        (error(401, "Unauthorized", www_authenticate="Basic realm=x"), Reason.UNAUTHORIZED),
        (answer(302, location="https://evil.example/"), Reason.FOREIGN_ANSWER),
        (answer(307, location=f"https://contoso.vault.azure.net/keys/k/{VERSION}/unwrapkey"), Reason.FOREIGN_ANSWER),
        (OPENED, Reason.FOREIGN_ANSWER),
        (error(404, "KeyNotFound"), Reason.FOREIGN_ANSWER),
        (error(400, "BadParameter"), Reason.FOREIGN_ANSWER),
        (error(403, "Forbidden", "KeyDisabled"), Reason.FOREIGN_ANSWER),
        (error(503, "ServiceUnavailable"), Reason.VAULT_ERROR),
    ],
)
async def test_a_strange_answer_to_the_first_request_costs_no_token_and_denies_nothing(
    doubtful: AzureKeyService, double: Double, tokens: Tokens, challenged: bytes, expected: Reason
) -> None:
    assert await reason(doubtful, double, challenged) is expected
    assert not tokens.asked
    assert len(double.requests) == 1


async def test_network_rules_are_believed_without_a_token(
    doubtful: AzureKeyService, double: Double, tokens: Tokens
) -> None:
    double.answers = [error(403, "Forbidden", "ForbiddenByFirewall")]
    given = await doubtful.unwrap(target(), b"wrapped-blob")
    assert isinstance(given, Refused)
    assert given.kind is RefusalKind.NETWORK_BLOCKED
    assert not tokens.asked


async def test_a_redirect_is_not_followed_with_a_token(doubtful: AzureKeyService, double: Double) -> None:
    moved = answer(307, location=f"https://elsewhere.vault.azure.net/keys/k/{VERSION}/unwrapkey")
    assert await reason(doubtful, double, challenge(TENANT), moved) is Reason.FOREIGN_ANSWER
    assert len(double.requests) == 2
    assert not any("elsewhere" in request for request in double.requests)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"[" * 60_000,
        b'{"value": ' + b"9" * 60_000 + b"}",
        b"\xff\xfe\x00",
        {"value": "cHJvYmU"},
        {"kid": KID},
        {"kid": KID, "value": ""},
        {"kid": KID, "value": "cHJvYmU="},
        {"kid": KID, "value": "cHJv YmU"},
        {"kid": KID, "value": "cHJvYm+"},
        {"kid": KID, "value": "cHJvYmV"},
        {"kid": KID, "value": ["cHJvYmU"]},
        {"kid": "https://contoso.vault.azure.net/keys/k", "value": "cHJvYmU"},
        {"kid": KID.replace("0", "1"), "value": "cHJvYmU"},
        {"kid": KID.replace("contoso", "fabrikam"), "value": "cHJvYmU"},
        {"kid": KID.replace("/k/", "/other/"), "value": "cHJvYmU"},
        {"kid": "http://[", "value": "cHJvYmU"},
    ],
)
async def test_an_answer_that_is_not_exactly_for_this_version_is_unreadable(
    doubtful: AzureKeyService, double: Double, body: object
) -> None:
    assert await reason(doubtful, double, challenge(TENANT), answer(200, body)) is Reason.UNREADABLE_ANSWER


async def test_a_200_without_the_vaults_headers_is_foreign(doubtful: AzureKeyService, double: Double) -> None:
    bare = answer(200, {"kid": KID, "value": "cHJvYmU"}, x_ms_request_id="")
    assert await reason(doubtful, double, challenge(TENANT), bare) is Reason.FOREIGN_ANSWER


async def test_key_names_come_back_in_another_case(doubtful: AzureKeyService, double: Double) -> None:
    double.answers = [challenge(TENANT), answer(200, {"kid": KID.replace("/k/", "/K/"), "value": "cHJvYmU"})]
    assert await doubtful.unwrap(target(), b"wrapped-blob") == b"probe"


class Flood:
    """An endless body, in pieces; counts what was taken."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        for _ in itertools.repeat(None):
            self.taken += 4096
            yield b"%x\r\n" % 4096 + b" " * 4096 + b"\r\n"


async def test_an_endless_answer_costs_a_bounded_amount(doubtful: AzureKeyService, double: Double) -> None:
    flood = Flood(answer(200, b"", transfer_encoding="chunked", content_length=""))
    assert await reason(doubtful, double, challenge(TENANT), flood, OPENED) is Reason.UNREADABLE_ANSWER
    async with asyncio.timeout(10):
        await double.idle.wait()
    assert flood.taken < 16 * 2**20  # what fits into the buffers of both kernels and both ends

    double.answers = [OPENED]
    assert await doubtful.unwrap(target(), b"wrapped-blob") == b"probe"


async def test_a_long_answer_is_not_read_to_its_end(doubtful: AzureKeyService, double: Double) -> None:
    long = answer(200, b'{"value": "' + b"A" * MAX_BODY_BYTES + b'"}')
    assert await reason(doubtful, double, challenge(TENANT), long) is Reason.UNREADABLE_ANSWER


async def test_a_compressed_bomb_is_cut_off(doubtful: AzureKeyService, double: Double) -> None:
    bomb = answer(200, gzip.compress(b" " * 50_000_000), content_encoding="gzip")
    assert len(bomb) < MAX_BODY_BYTES
    assert await reason(doubtful, double, challenge(TENANT), bomb) is Reason.UNREADABLE_ANSWER


@pytest.mark.parametrize("junk", [b"\x00\x01\x02\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc Huh\r\n\r\n"])
async def test_something_that_does_not_speak_http(doubtful: AzureKeyService, double: Double, junk: bytes) -> None:
    said = await reason(doubtful, double, iter([junk]))
    assert said in (Reason.UNREADABLE_ANSWER, Reason.CONNECTION_FAILED)


async def test_a_certificate_that_nobody_vouches_for(tokens: Tokens, double: Double, service_over: ServiceOver) -> None:
    network = NetworkSettings(connect_to={"*.vault.azure.net": f"127.0.0.1:{double.port}"})
    async with Outbound(VaultSettings(), network) as outbound:
        service = service_over(outbound.kept, tokens, vaults=VaultSettings())
        assert await reason(service, double, OPENED) is Reason.TLS_FAILED
    assert not double.requests


async def test_the_certificate_must_be_for_the_original_name(
    double: Double, tokens: Tokens, service_over: ServiceOver
) -> None:
    vaults = VaultSettings(allowed_suffixes=("vault.azure.cn",))
    network = NetworkSettings(ca_file=double.ca_file, connect_to={"*": f"127.0.0.1:{double.port}"})
    async with Outbound(vaults, network) as outbound:
        service = service_over(outbound.kept, tokens, vaults=vaults)
        key = KeyIdentifier(VaultHost("contoso.vault.azure.cn"), "k", VERSION)
        given = await service.get(KeyTarget(IdentityName("platform"), TENANT, key))
        assert given.reason is Reason.TLS_FAILED


async def test_a_host_that_is_not_allowed_any_more_gets_nothing(
    doubtful: AzureKeyService, double: Double, tokens: Tokens
) -> None:
    key = KeyIdentifier(VaultHost("contoso.vault.azure.net.evil.example"), "k", VERSION)
    given = await doubtful.get(KeyTarget(IdentityName("platform"), TENANT, key))
    assert (given.reason, given.evidence.code) == (Reason.TOKEN_UNAVAILABLE, "HostNotAllowed")
    assert not double.requests
    assert not tokens.asked


async def test_a_host_that_always_rejects_gets_two_tokens_and_no_more(
    doubtful: AzureKeyService, double: Double, tokens: Tokens
) -> None:
    unresolved = {"error": {"code": "Unauthorized", "message": "AKV10046: Unable to resolve the key"}}
    told = f'Bearer authorization="https://login.microsoftonline.com/{TENANT}", resource="https://vault.azure.net"'
    rejected = answer(401, unresolved, www_authenticate=told)
    assert await reason(doubtful, double, challenge(TENANT), rejected) is Reason.UNAUTHORIZED
    assert [asked["rejected"] for asked in tokens.asked] == [None, "secret-token-1"]
    assert len(double.requests) <= 4  # the SDK asks for the challenge again


async def test_a_claims_challenge_may_be_brief(doubtful: AzureKeyService, double: Double, tokens: Tokens) -> None:
    claims = (
        'Bearer authorization="https://login.microsoftonline.com/", error="insufficient_claims", claims="eyJhIjoxfQ"'
    )
    double.answers = [challenge(TENANT), answer(401, None, www_authenticate=claims), OPENED]
    assert await doubtful.unwrap(target(), b"wrapped-blob") == b"probe"
    assert tokens.asked[1]["claims"] == '{"a":1}'
    assert {asked["scope"] for asked in tokens.asked} == {"https://vault.azure.net/.default"}


async def test_a_version_is_a_must_for_wrapping(doubtful: AzureKeyService) -> None:
    versionless = KeyTarget(IdentityName("platform"), TENANT, KeyIdentifier(VaultHost("contoso.vault.azure.net"), "k"))
    with pytest.raises(ValueError, match="needs a version"):
        await doubtful.wrap(versionless, b"x")


async def test_an_elliptic_curve_key_is_described_as_such(doubtful: AzureKeyService, double: Double) -> None:
    key = {"key": {"kid": KID, "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, "attributes": {"enabled": True}}
    double.answers = [challenge(TENANT), answer(200, key)]
    facts = await doubtful.get(target())
    assert isinstance(facts, KeyFacts)
    assert (facts.key_type, facts.bits) == ("EC", 0)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"enabled": "yes"},
        {"enabled": True, "exp": "soon"},
        {"enabled": True, "exp": 10**30},
        {"enabled": True, "nbf": 1.5},
    ],
)
async def test_attributes_that_make_no_sense_are_unreadable(
    doubtful: AzureKeyService, double: Double, attributes: dict[str, object]
) -> None:
    key = {"key": {"kid": KID, "kty": "RSA", "n": "_w", "key_ops": []}, "attributes": attributes}
    double.answers = [challenge(TENANT), answer(200, key)]
    given = await doubtful.get(target())
    assert isinstance(given, NoAnswer)
    assert given.reason is Reason.UNREADABLE_ANSWER


async def test_connections_are_bounded_idle_ones_included(doubtful: AzureKeyService, double: Double) -> None:
    def told(request: str) -> bytes:
        return error(404, "KeyNotFound") if "Authorization" in request else challenge(TENANT)

    double.answers = [told]
    await asyncio.gather(*(doubtful.get(target(f"vault{number:03d}")) for number in range(40)))
    assert len(double.requests) == 80
    assert double.most_open <= 4 + 1  # a closed one may end while its successor begins


async def test_kept_connections_are_reused_and_fresh_ones_are_new(
    doubtful: AzureKeyService, double: Double, to_double: Outbound, tokens: Tokens, service_over: ServiceOver
) -> None:
    double.answers = [challenge(TENANT), OPENED]
    for _ in range(5):
        assert await doubtful.unwrap(target(), b"w") == b"probe"
    assert double.opened == 1

    fresh = service_over(to_double.fresh, tokens, vaults=VaultSettings())
    double.answers = [challenge(TENANT), OPENED]
    for _ in range(3):
        assert await fresh.unwrap(target(), b"w") == b"probe"
    assert double.opened == 1 + 1 + 3


async def test_what_is_remembered_of_hosts_is_bounded(
    double: Double, to_double: Outbound, tokens: Tokens, service_over: ServiceOver
) -> None:
    service = service_over(to_double.kept, tokens, vaults=VaultSettings(clients=1))
    for vault in ("one", "two", "one"):
        double.answers = [challenge(TENANT), error(404, "KeyNotFound")]
        assert isinstance(await service.get(target(f"{vault}-vault")), Refused)
    assert len(double.requests) == 6


async def test_names_that_do_not_resolve(tokens: Tokens, service_over: ServiceOver) -> None:
    network = NetworkSettings(connect_to={"*.vault.azure.net": "not a name:443"})
    async with Outbound(VaultSettings(), network) as outbound:
        given = await service_over(outbound.kept, tokens, vaults=VaultSettings()).get(target())
    assert given.reason is Reason.NAME_NOT_RESOLVED


async def test_nobody_listens(tokens: Tokens, unused_tcp_port: int, service_over: ServiceOver) -> None:
    network = NetworkSettings(connect_to={"*.vault.azure.net": f"127.0.0.1:{unused_tcp_port}"})
    async with Outbound(VaultSettings(), network) as outbound:
        given = await service_over(outbound.kept, tokens, vaults=VaultSettings()).get(target())
    assert given.reason is Reason.CONNECTION_FAILED
