"""A subscription begins with a handshake, and shows no secret afterwards."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web

from byokd.emulator import ControlError, Emulator
from byokd.emulator.subscription_documents import TokenOptions
from byokd.emulator.tls import make_context
from byokd.emulator.world import HOME_TENANT
from emulator.receiver import Answer, Got, Receiver, agree
from emulator.support import KEY, VAULT

CLOUD = "CloudEventSchemaV1_0"
AUDIENCE = "api://byokd-events"
EVENT_GRID = "4962773b-9cdb-44cf-a8bf-237846a00ab7"


async def counted(emulator: Emulator, operation: str) -> dict[tuple[int, str], int]:
    listing = await emulator.control.calls()
    return {
        (one["status"], one["code"]): one["count"]
        for one in listing
        if (one["target"], one["operation"]) == ("event-grid", operation)
    }


async def test_event_grid_schema_is_validated_by_a_code(vault: Emulator, receiver: Receiver) -> None:
    state = await vault.control.create_subscription(VAULT, "to-byokd", receiver.url)
    (got,) = receiver.handshakes
    (event,) = got.body
    assert (got.method, got.headers["aeg-event-type"]) == ("POST", "SubscriptionValidation")
    assert got.headers["Content-Type"] == "application/json; charset=utf-8"
    assert event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent"
    assert set(event["data"]) == {"validationCode", "validationUrl"}
    assert (state["name"], state["schema"], state["waiting"]) == ("to-byokd", "EventGridSchema", 0)
    assert await counted(vault, "validate") == {(200, "agreed"): 1}


async def test_cloud_events_are_agreed_to_by_origin(vault: Emulator, receiver: Receiver) -> None:
    await vault.control.create_subscription(VAULT, "first", receiver.url, schema=CLOUD)
    (got,) = receiver.handshakes
    assert (got.method, got.headers["WebHook-Request-Origin"]) == ("OPTIONS", "eventgrid.azure.net")
    assert got.headers["WebHook-Request-Callback"].startswith(vault.http_url)
    receiver.handshake = lambda _: web.Response(headers={"WebHook-Allowed-Origin": "*"})
    await vault.control.create_subscription(VAULT, "second", receiver.url, schema=CLOUD)
    assert [one["name"] for one in await vault.control.subscriptions(VAULT)] == ["first", "second"]


def with_status(status: int) -> Answer:
    def answer(got: Got) -> web.Response:
        good = agree(got)
        good.set_status(status)
        return good

    return answer


@pytest.mark.parametrize(
    ("schema", "answer", "words"),
    [
        ("EventGridSchema", with_status(202), "answered 202 and not 200"),
        ("EventGridSchema", with_status(401), "answered 401 and not 200"),
        ("EventGridSchema", lambda _: web.json_response({"validationResponse": "another"}), "validation code"),
        ("EventGridSchema", lambda _: web.Response(text="hello"), "validation code"),
        ("EventGridSchema", lambda _: web.json_response([]), "validation code"),
        (CLOUD, with_status(405), "answered 405 and not 200"),
        (CLOUD, lambda _: web.Response(), "did not allow eventgrid.azure.net"),
        (CLOUD, lambda _: web.Response(headers={"WebHook-Allowed-Origin": "example.org"}), "did not allow"),
    ],
)
async def test_endpoint_that_does_not_agree_gets_nothing(
    vault: Emulator, receiver: Receiver, schema: str, answer: Answer, words: str
) -> None:
    receiver.handshake = answer
    with pytest.raises(ControlError, match=words) as caught:
        await vault.control.create_subscription(VAULT, "to-byokd", f"{receiver.url}?code=s3cret", schema=schema)
    assert caught.value.status == 400
    assert caught.value.hint
    assert "s3cret" not in caught.value.message
    assert await vault.control.subscriptions(VAULT) == []
    assert [code for _, code in await counted(vault, "validate")] == ["refused"]
    await vault.control.rotate_key(VAULT, KEY)
    assert receiver.deliveries == []


async def test_endpoint_that_is_not_there_is_refused(vault: Emulator) -> None:
    with pytest.raises(ControlError, match=r"http://127.0.0.1:1/ failed: it gave no answer"):
        await vault.control.create_subscription(VAULT, "to-byokd", "http://127.0.0.1:1/")


async def test_endpoint_that_does_not_answer_in_time_is_refused(vault: Emulator) -> None:
    async def sleepy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(sleepy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ControlError, match="TimeoutError"):
            await vault.control.create_subscription(VAULT, "slow", f"http://127.0.0.1:{port}/", answer_seconds=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"endpoint": "http://example.org/events"}, "on loopback"),
        ({"endpoint": "http://user:word@127.0.0.1/events"}, "on loopback"),
        ({"endpoint": "ftp://127.0.0.1/"}, "on loopback"),
        ({"name": "x"}, "name: "),
        ({"headers": {"aeg-event-type": "x"}}, "headers"),
        ({"headers": {"x-secret": "a\r\nb"}}, "headers"),
        ({"headers": {f"x-{number}": "x" for number in range(11)}}, "headers"),
        ({"headers": {"authorization": "x"}, "token": {"audience": AUDIENCE}}, "exclude each other"),
        ({"ca_file": "/nowhere/ca.pem"}, "cannot be used"),
        ({"event_types": ["Microsoft.KeyVault.KeyDeleted"]}, "event_types"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
async def test_what_cannot_be_subscribed_to_is_explained(
    vault: Emulator, receiver: Receiver, changes: dict[str, Any], words: str
) -> None:
    wanted = {"name": "to-byokd", "endpoint": receiver.url, **changes}
    with pytest.raises(ControlError, match=words):
        await vault.control.create_subscription(VAULT, **wanted)
    assert receiver.handshakes == []


async def test_names_are_taken_once_and_free_again(vault: Emulator, receiver: Receiver) -> None:
    await vault.control.create_subscription(VAULT, "to-byokd", receiver.url)
    with pytest.raises(ControlError, match="is taken"):
        await vault.control.create_subscription(VAULT, "to-byokd", receiver.url)
    await vault.control.delete_subscription(VAULT, "to-byokd")
    with pytest.raises(ControlError, match="no subscription named"):
        await vault.control.delete_subscription(VAULT, "to-byokd")
    with pytest.raises(ControlError, match="no subscription named"):
        await vault.control.subscription(VAULT, "to-byokd")
    await vault.control.create_subscription(VAULT, "to-byokd", receiver.url)


async def test_fetching_a_validation_url_is_noticed_and_validates_nothing(vault: Emulator, receiver: Receiver) -> None:
    receiver.handshake = lambda _: web.Response()
    with pytest.raises(ControlError, match="validation code"):
        await vault.control.create_subscription(VAULT, "to-byokd", receiver.url)
    url = receiver.handshakes[0].body[0]["data"]["validationUrl"]
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
    assert (await counted(vault, "validate"))[200, "validation_url_fetched"] == 1
    assert await vault.control.subscriptions(VAULT) == []


async def test_headers_go_along_with_everything_and_are_never_shown(
    vault: Emulator, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    secret = {"x-byokd-secret": "s3cret-value"}
    made = await vault.control.create_subscription(VAULT, "one", f"{receiver.url}?code=s3cret-query", headers=secret)
    await vault.control.rotate_key(VAULT, KEY)
    (got,) = await receiver.got(1)
    for one in (receiver.handshakes[0], got):
        assert (one.headers["x-byokd-secret"], one.query) == ("s3cret-value", "code=s3cret-query")
    shown = [made, await vault.control.state(), await vault.control.subscriptions(VAULT), await vault.control.calls()]
    shown.append(await vault.control.subscription(VAULT, "one"))
    assert (made["headers"], made["endpoint"]) == (["x-byokd-secret"], receiver.url)
    assert "s3cret" not in json.dumps(shown) + caplog.text + repr(vault.world.vault(VAULT))


@pytest.mark.parametrize(
    ("version", "claim", "issuer"),
    [(1, "appid", "https://sts.windows.net/{}/"), (2, "azp", "https://login.microsoftonline.com/{}/v2.0")],
)
async def test_token_of_the_delivering_application_goes_along(
    vault: Emulator, receiver: Receiver, session: aiohttp.ClientSession, version: int, claim: str, issuer: str
) -> None:
    token: TokenOptions = {"audience": AUDIENCE, "version": version}
    made = await vault.control.create_subscription(VAULT, "one", receiver.url, token=token)
    await vault.control.rotate_key(VAULT, KEY)
    (got,) = await receiver.got(1)
    async with session.get(f"https://login.microsoftonline.com/{HOME_TENANT}/discovery/v2.0/keys") as response:
        (key,) = (await response.json())["keys"]
    for one in (receiver.handshakes[0], got):
        scheme, _, text = one.headers["Authorization"].partition(" ")
        claims = jwt.decode(text, jwt.PyJWK(key), algorithms=["RS256"], audience=AUDIENCE)
        assert (scheme, claims[claim], claims["tid"]) == ("Bearer", EVENT_GRID, HOME_TENANT)
        assert claims["iss"] == issuer.format(HOME_TENANT)
        assert ({"appid", "azp"} & set(claims)) == {claim}
    expected = {"tenant": HOME_TENANT, "audience": AUDIENCE, "application": EVENT_GRID, "version": version}
    assert made["token"] == expected


async def test_https_endpoint_is_trusted_through_the_given_authority_only(vault: Emulator, tmp_path: Path) -> None:
    ca_file = tmp_path / "receiver.pem"
    async with Receiver.start(make_context(ca_file)) as receiver:
        with pytest.raises(ControlError, match="gave no answer: ClientConnectorCertificateError"):
            await vault.control.create_subscription(VAULT, "one", receiver.url)
        with pytest.raises(ControlError, match="gave no answer: ClientConnectorCertificateError"):
            await vault.control.create_subscription(VAULT, "one", receiver.url, ca_file=str(vault.ca_file))
        await vault.control.create_subscription(VAULT, "one", receiver.url, ca_file=str(ca_file))
        await vault.control.rotate_key(VAULT, KEY)
        await receiver.got(1)
