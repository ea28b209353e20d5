"""Tokens of deliveries, given by the emulator's Entra ID and by others."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs

from byokd.adapters.identity.deliveries import ASK_AGAIN_SECONDS, EntraDeliveryTokens
from byokd.emulator.world import HOME_TENANT
from byokd.ports.deliveries import DeliveryKeysUnavailableError
from identity.platform import CONTOSO, Platform, claims_of, running_platform
from identity.proofs import rsa_key

PUBLIC, GOVERNMENT, CHINA = (
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
)
ELSEWHERE = {"https://sts.chinacloudapi.cn/{}/": {CHINA}} | {
    f"https://{host}/{{}}/v2.0": {host} for host in (PUBLIC, GOVERNMENT, CHINA)
}
"""Issuers, and the authorities for which they speak."""


@pytest.fixture
async def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    async with running_platform(tmp_path, monkeypatch) as running:
        yield running


class Judging:
    """The token of one application, and what is wanted of it."""

    def __init__(self, platform: Platform, token: str) -> None:
        self.tokens = EntraDeliveryTokens(platform.outbound.tokens, platform.clock)
        self.token = token
        claims = claims_of(token)
        self.wanted = {"tenant": HOME_TENANT, "audience": claims["aud"], "application": claims["appid"]}
        self.wanted["authority"] = PUBLIC

    async def judge(self, token: str | None = None, **wanted: str) -> bool:
        return await self.tokens.are_from(self.token if token is None else token, **{**self.wanted, **wanted})


@pytest.fixture
async def judging(platform: Platform) -> Judging:
    return Judging(platform, await platform.token("user", tenant=HOME_TENANT))


async def test_a_token_of_the_right_application_is_believed_and_the_keys_are_kept(
    platform: Platform, judging: Judging
) -> None:
    for _ in range(3):
        assert await judging.judge()
    assert platform.emulator.world.calls.total(target="entra", operation="metadata") == 1


async def test_a_token_for_others_or_from_others_is_not(judging: Judging) -> None:
    other = "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert not await judging.judge(audience="api://other")
    assert not await judging.judge(application=other)
    assert not await judging.judge(tenant=CONTOSO)
    assert await judging.judge()


@pytest.mark.parametrize("authority", [PUBLIC, GOVERNMENT, CHINA])
@pytest.mark.parametrize(
    ("issuer", "spoken_for"), [*ELSEWHERE.items(), ("https://sts.windows.net/{}/", {PUBLIC, GOVERNMENT})]
)
async def test_each_cloud_has_issuers_and_keys_of_its_own(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, authority: str, issuer: str, spoken_for: set[str]
) -> None:
    monkeypatch.setattr("byokd.emulator.tokens.token_issuer", lambda tenant, _resource: issuer.format(tenant))
    judging = Judging(platform, await platform.token("user", tenant=HOME_TENANT))
    asked: list[str] = []
    fetch = judging.tokens._fetch

    async def note(url: str) -> bytes:
        asked.append(url)
        return await fetch(url)

    monkeypatch.setattr(judging.tokens, "_fetch", note)
    assert await judging.judge(authority=authority) is (authority in spoken_for)
    assert asked == [f"https://{authority}/{HOME_TENANT}/discovery/v2.0/keys"]


async def test_what_is_forged_or_no_token_is_not_and_does_not_have_the_keys_fetched_again(
    platform: Platform, judging: Judging
) -> None:
    assert await judging.judge()
    claims: dict[str, Any] = claims_of(judging.token)
    kid = jwt.get_unverified_header(judging.token)["kid"]
    forged = [
        jwt.encode(claims, rsa_key(0), algorithm="RS256", headers={"kid": kid}),
        jwt.encode(claims, rsa_key(0), algorithm="RS256", headers={"kid": "unknown"}),
        jwt.encode(claims, "shared" * 8, algorithm="HS256", headers={"kid": kid}),
        jwt.encode(claims, None, algorithm="none", headers={"kid": kid}),
        judging.token[:-4],
        judging.token + "A" * 20_000,
        "x.y.z",
        "",
        "\u00e4",
    ]
    for token in forged:
        assert not await judging.judge(token)
    assert platform.emulator.world.calls.total(target="entra", operation="metadata") == 1
    platform.clock.ahead += ASK_AGAIN_SECONDS
    assert not await judging.judge(forged[1])
    assert platform.emulator.world.calls.total(target="entra", operation="metadata") == 2


@pytest.mark.parametrize(("ahead", "believed"), [(0, True), (86_399 + 100, True), (86_399 + 200, False)])
async def test_a_token_counts_in_its_time(platform: Platform, judging: Judging, ahead: float, believed: bool) -> None:  # noqa: FBT001 - drawn
    platform.clock.ahead = claims_of(judging.token)["nbf"] - time.time() + ahead
    assert await judging.judge() is believed
    platform.clock.ahead = claims_of(judging.token)["nbf"] - time.time() - 200
    assert not await judging.judge()


async def test_without_the_keys_no_token_is_believed_and_they_are_asked_for_again_soon(
    platform: Platform, judging: Judging
) -> None:
    await platform.emulator.control.set_fault("entra", "server_error", count=1)
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(DeliveryKeysUnavailableError):
                await judging.judge()
    assert [log["event"] for log in logs] == ["signing-keys-not-had"]
    platform.clock.ahead += 5
    assert await judging.judge()
