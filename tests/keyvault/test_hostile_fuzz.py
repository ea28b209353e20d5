"""Whatever a vault answers: tokens stay where they belong, the port's answers come out, and nothing of it is told on.

Two servers stand where Azure would: one is every vault, answers what Hypothesis makes up, and records all that it is
sent; the other is everywhere else, and nobody may come there. Tokens are real ones, of the emulator.
"""

import asyncio
import base64
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import pytest
from azure.keyvault.keys._shared import http_challenge_cache
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.dates import VaultDates
from byokd.adapters.keyvault.greeting import AzureVaultGreeter
from byokd.adapters.keyvault.service import AzureKeyService, Bystanders
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.emulator import Emulator
from byokd.ports import KeyTarget
from byokd.settings import IdentitySettings, NetworkSettings, VaultSettings
from keyvault.double import Double
from keyvault.way import RealClock, ServiceOver

HOST, OTHER_HOST = VaultHost("contoso.vault.azure.net"), "fabrikam.vault.azure.net"
VERSION = KeyVersion("0123456789abcdef0123456789abcdef")
KID = f"https://{HOST}/keys/k/{VERSION}"
OTHER_TENANT = "99999999-9999-9999-9999-999999999999"
SCOPE = "https://vault.azure.net/.default"
PLAINTEXT = b"the plaintext of an account key!"
PLANTED = "Pl4nted-by-the-vault"
"""What no part of may be told on, wherever in an answer it stands."""


@dataclass
class Recorder:
    """Passes on to the real credentials, and records what was asked of them."""

    credentials: Credentials
    asked: list[tuple[object, ...]] = field(default_factory=list)

    async def token(self, identity: IdentityName, *, scope: str, tenant: TenantId, **more: str | None) -> str:
        self.asked.append((identity, scope, tenant))
        assert len(more.get("claims") or "") <= 2048
        return await self.credentials.token(identity, scope=scope, tenant=tenant, **more)


@dataclass
class Site:
    vault: Double
    elsewhere: Double
    outbound: Outbound
    recorder: Recorder
    target: KeyTarget
    tokens: set[str]


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    async with contextlib.AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator.start(state_dir=tmp_path / "emulator"))
        for name, value in emulator.imds_environment().items():
            monkeypatch.setenv(name, value)
        vault, elsewhere = [
            await stack.enter_async_context(Double.start(tmp_path / name)) for name in ("vault", "elsewhere")
        ]
        ca_file = tmp_path / "ca.pem"
        ca_file.write_text(vault.ca_file.read_text() + elsewhere.ca_file.read_text())
        routes = {HOST: f"127.0.0.1:{vault.port}", "*": f"127.0.0.1:{elsewhere.port}"}
        outbound = await stack.enter_async_context(
            Outbound(VaultSettings(connections=4), NetworkSettings(ca_file=ca_file, connect_to=routes))
        )
        credentials = Credentials({"platform": IdentitySettings()}, outbound.tokens, clock=RealClock())
        stack.push_async_callback(credentials.close)
        tenant = TenantId((await emulator.control.create_vault("contoso"))["tenant"])
        key = KeyIdentifier(HOST, "k", VERSION)
        yield Site(
            vault, elsewhere, outbound, Recorder(credentials), KeyTarget(IdentityName("platform"), tenant, key), set()
        )


PLACES = {
    "entra": "https://login.microsoftonline.com/{tenant}",
    "other tenant": f"https://login.microsoftonline.com/{OTHER_TENANT}",
    "no tenant": "https://login.microsoftonline.com/",
    "common": "https://login.microsoftonline.com/common",
    "elsewhere": f"https://{OTHER_HOST}/{{tenant}}",
    "user": f"https://login.microsoftonline.com@{OTHER_HOST}/{{tenant}}",
    "clear": "http://login.microsoftonline.com/{tenant}",
    "planted": f"https://login.microsoftonline.com/{PLANTED}",
}
RESOURCES = (
    "https://vault.azure.net",
    "https://azure.net",
    "https://management.azure.com",
    f"https://{OTHER_HOST}",
    "",
)
CLAIMS = (
    base64.b64encode(b'{"access_token":{}}').decode(),
    base64.b64encode(PLANTED.encode() * 400).decode(),
    base64.b64encode(b"[" * 3000).decode(),
    "not base64",
)
fields = st.one_of(
    st.builds('authorization="{}"'.format, st.sampled_from(list(PLACES.values()))),
    st.builds('authorization_uri="{}"'.format, st.sampled_from(list(PLACES.values()))),
    st.builds('resource="{}"'.format, st.sampled_from(RESOURCES)),
    st.builds('scope="{}/.default"'.format, st.sampled_from(RESOURCES)),
    st.builds('claims="{}"'.format, st.sampled_from(CLAIMS)),
    # Read differently by whoever splits at commas and whoever minds quotes.
    st.builds('x="y, resource={}"'.format, st.sampled_from(RESOURCES)),
    st.builds('x="y, scope={}/.default"'.format, st.sampled_from(RESOURCES)),
    st.builds('x="y, authorization_uri={}"'.format, st.sampled_from(list(PLACES.values()))),
    st.just('error="insufficient_claims"'),
    st.just("a" * 4000),
)
GOOD_FIELDS = ['authorization="https://login.microsoftonline.com/{tenant}"', 'resource="https://vault.azure.net"']
challenges = st.builds(
    lambda good, more, scheme: f"{scheme} " + ", ".join([*(GOOD_FIELDS if good else ()), *more]),
    st.booleans(),
    st.lists(fields, max_size=4),
    st.sampled_from(["Bearer", "Bearer", "Bearer", "bearer", "PoP", "Basic", ""]),
)
ECHOES = (
    "{token}",
    "{value}",
    "{token_tail}",
    PLANTED,
    PLANTED * 20,
    "\x1b[31m",
    "Forbidden",
    "KeyNotFound",
    "AKV10032: x",
)
echo = st.sampled_from(ECHOES)
DATES = ("Thu, 05 Nov 99999999999999 12:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -1200", "Thu, 05 Nov 2026 12:00:00 GMT")
headers = st.fixed_dictionaries(
    {},
    optional={
        "x-ms-request-id": echo | st.just("8d2f1c0e"),
        "x-ms-keyvault-network-info": echo | st.just("addr=203.0.113.7;"),
        "Retry-After": echo | st.sampled_from(["0", "99999999999", *DATES]),
        "Date": echo | st.sampled_from(DATES),
        "Location": st.sampled_from(
            [f"https://{OTHER_HOST}/keys/k", f"http://{OTHER_HOST}/", "/keys/k", "//[", PLANTED]
        ),
        "Content-Encoding": st.sampled_from(["gzip", "identity", PLANTED]),
        "Content-Type": st.sampled_from(
            ["application/json", "text/xml", "application/json; charset=" + PLANTED, PLANTED]
        ),
        "Set-Cookie": st.just(f"a={PLANTED}"),
        "Refresh": st.just(f"0; url=https://{OTHER_HOST}/"),
    },
)
leaves = echo | st.none() | st.booleans() | st.integers() | st.just(10**30) | st.floats()
junk = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(echo, inner, max_size=2), max_leaves=4
)
errors = st.fixed_dictionaries(
    {"code": junk, "message": junk}, optional={"innererror": junk | st.fixed_dictionaries({"code": junk})}
)
keys = st.fixed_dictionaries(
    {"kid": junk | st.just(KID), "kty": junk | st.just("RSA"), "n": junk | st.just("_w")},
    optional={"key_ops": st.lists(junk, max_size=3)},
)
attributes = st.fixed_dictionaries(
    {"enabled": st.booleans() | junk}, optional={"created": junk, "exp": junk, "nbf": junk, "recoveryLevel": junk}
)
documents = st.one_of(
    junk,
    st.fixed_dictionaries({"error": errors}),
    st.fixed_dictionaries({"kid": junk | st.just(KID), "value": junk | st.just("cHJvYmU")}),
    st.fixed_dictionaries({"key": keys, "attributes": attributes}),
)
bodies = documents.map(json.dumps) | st.sampled_from(
    ["", "[" * 5000, f"<html>{PLANTED}", f"<?xml version='1.0'?><a>{PLANTED}</a>"]
)
STATUSES = (100, 200, 204, 301, 302, 303, 307, 308, 400, 401, 403, 404, 429, 500, 503, 999)


@dataclass(frozen=True)
class Told:
    """One answer, with places for what the request bore."""

    status: int
    challenge: str | None
    headers: dict[str, str]
    body: str
    ends: bytes

    def to(self, request: str, *, tenant: str) -> bytes:
        token = (re.search(r"Bearer (\S+)", request) or [None, "none"])[1]
        value = (re.search(r'"value": ?"([^"]+)"', request) or [None, "none"])[1]
        told = {**self.headers, **({} if self.challenge is None else {"WWW-Authenticate": self.challenge})}

        def filled(text: str) -> str:
            for name, what in (("token_tail", token[-60:]), ("token", token), ("value", value), ("tenant", tenant)):
                text = text.replace(f"{{{name}}}", what)
            return text

        body = filled(self.body).encode(errors="replace")
        lines = [f"HTTP/1.1 {self.status} {PLANTED}", *(f"{name}: {filled(one)}" for name, one in told.items())]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body + self.ends


answers = st.builds(
    Told,
    status=st.sampled_from(STATUSES) | st.sampled_from([401, 200, 403]),
    challenge=st.none() | challenges,
    headers=headers,
    body=bodies,
    ends=st.sampled_from([b"", b"", b"", Double.HANG_UP, b"HTTP/1.1 200 OK\r\n\r\n", b"\0" * 50]),
)
FIRST = Told(401, "Bearer " + ", ".join(GOOD_FIELDS), {"x-ms-request-id": "8d2f"}, "{}", b"")
REDIRECT = Told(307, None, {"x-ms-request-id": "8d2f", "Location": f"https://{OTHER_HOST}/keys/k"}, "", b"")
SPLIT = Told(401, FIRST.challenge + ', x="y, resource=https://azure.net"', FIRST.headers, "{}", b"")
AGES = Told(404, None, {"x-ms-request-id": "8d2f", "Date": DATES[1]}, '{"error": {"code": "KeyNotFound"}}', b"")
GOES_ON = Told(100, None, {}, "{}", b"")
ECHOED = Told(
    403,
    None,
    {"x-ms-request-id": "{token_tail}"},
    '{"error": {"code": "{value}", "innererror": {"code": "{token}"}}}',
    b"",
)
whole_talks = st.lists(answers, min_size=1, max_size=3) | st.lists(answers, min_size=1, max_size=3).map(
    lambda told: [FIRST, *told]
)


@pytest.mark.parametrize("operation", ["get", "wrap", "unwrap"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(talk=whole_talks)
@example(talk=[FIRST, REDIRECT])
@example(talk=[SPLIT, AGES])
@example(talk=[FIRST, AGES])
@example(talk=[FIRST, ECHOED])
async def test_whatever_a_vault_answers(
    site: Site, service_over: ServiceOver, caplog: pytest.LogCaptureFixture, operation: str, talk: list[Told]
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    http_challenge_cache.clear()
    site.vault.requests.clear()
    site.recorder.asked.clear()
    site.vault.answers = _saying(talk, site.target.tenant)
    dates = VaultDates(RealClock(), lambda *_: None)
    service = service_over(
        site.outbound.kept, site.recorder, vaults=VaultSettings(), bystanders=Bystanders(dates=dates)
    )
    # The second time round, something may have been remembered.
    given_back = [await _asked(service, operation, site.target) for _ in range(2)]
    shown = [repr(one) for one in given_back if isinstance(one, Refused | NoAnswer | KeyFacts)]
    assert_tokens_stay(site)
    assert_nothing_is_told_on(site, "\n".join([*shown, caplog.text]))
    for one in given_back:
        if isinstance(one, Refused | NoAnswer):
            texts = (one.evidence.code, one.evidence.inner_code, one.evidence.request_id, one.evidence.address)
            assert all(text is None or re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text) for text in texts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=answers)
@example(told=AGES)
@example(told=GOES_ON)
async def test_whatever_a_vault_answers_to_a_greeting(site: Site, told: Told) -> None:
    site.vault.answers = _saying([told], site.target.tenant)
    async with asyncio.timeout(5):
        greeting = await AzureVaultGreeter(site.outbound.fresh, RealClock()).greet(HOST)
    assert PLANTED not in repr(greeting)
    assert site.elsewhere.opened == 0
    assert not site.recorder.asked


def _saying(talk: list[Told], tenant: str) -> list[Callable[[str], bytes]]:
    return [lambda request, told=told: told.to(request, tenant=tenant) for told in talk]


async def _asked(service: AzureKeyService, operation: str, target: KeyTarget) -> object:
    """Ask, with a deadline like a check's; what comes out is what the port promises."""
    try:
        async with asyncio.timeout(0.3):
            if operation == "get":
                given_back: object = await service.get(target)
            else:
                given_back = await (service.wrap if operation == "wrap" else service.unwrap)(target, PLAINTEXT)
    except TimeoutError:
        return None
    assert isinstance(given_back, KeyFacts | bytes | Refused | NoAnswer)
    return given_back


def assert_tokens_stay(site: Site) -> None:
    """Tokens were asked for the pinned tenant and the cloud's vaults alone, and shown to this vault alone."""
    assert set(site.recorder.asked) <= {(site.target.identity, SCOPE, site.target.tenant)}
    assert site.elsewhere.opened == 0
    for request in site.vault.requests:
        assert f"\r\nhost: {HOST}\r\n" in request.lower()
        if shown := re.search(r"authorization: bearer (\S+)", request, re.IGNORECASE):
            claims = jwt.decode(shown[1], options={"verify_signature": False})
            assert (claims["aud"], claims["tid"]) == ("https://vault.azure.net", site.target.tenant)
            site.tokens.add(shown[1])
        else:
            assert base64.urlsafe_b64encode(PLAINTEXT).decode().rstrip("=") not in request


def assert_nothing_is_told_on(site: Site, text: str) -> None:
    encoded = base64.urlsafe_b64encode(PLAINTEXT).decode().rstrip("=")
    for secret in (PLANTED, encoded[:24], "plaintext of an account", *(token[-60:-40] for token in site.tokens)):
        assert secret not in text
