"""The EventQueue port over the real SDK, against Azurite and the tokens of Azure in miniature."""

import asyncio
from pathlib import Path

import pytest

from byokd.domain.queued import read_message
from byokd.emulator import Emulator
from byokd.ports.queues import EventQueue, QueueTrouble, QueueUnavailableError
from parts.azurite import HOST, Azurite
from parts.waiting import eventually
from queues.platform import Platform, encoded, event, platform, source

pytestmark = pytest.mark.real("azurite")


async def trouble_of(queue: EventQueue) -> tuple[QueueTrouble, str | None]:
    with pytest.raises(QueueUnavailableError) as raised:
        await queue.receive()
    with pytest.raises(QueueUnavailableError) as peeked:
        await queue.peek()
    assert (peeked.value.trouble, peeked.value.code) == (raised.value.trouble, raised.value.code)
    return raised.value.trouble, raised.value.code


async def test_messages_of_every_form_come_as_they_were_written_and_go_when_they_are_deleted(site: Platform) -> None:
    plain = '{"specversion": "1.0", "id": "<&> \N{SNOWMAN}", "type": "x"}'
    await site.write(encoded([event(1), event(2)]), plain, "\N{SNOWMAN} & no event")
    queue = site.queue()
    messages = await queue.receive()
    assert [message.tries for message in messages] == [1, 1, 1]
    assert [message.text for message in messages[1:]] == [plain, "\N{SNOWMAN} & no event"]
    assert [signal.id for signal in read_message(messages[0].text).signals] == ["1", "2"]
    assert len({message.id for message in messages}) == 3
    assert plain not in repr(messages)
    for message in messages:
        await queue.delete(message)
    assert (await site.texts(), await queue.receive()) == ([], [])


async def test_a_batch_is_no_larger_than_asked_for_and_what_is_not_deleted_comes_again(site: Platform) -> None:
    await site.write(*"abcde")
    queue = site.queue(batch=2)
    first = await queue.receive()
    assert [message.text for message in first] == ["a", "b"]
    assert [message.text for message in await queue.receive()] == ["c", "d"]
    again: list[int] = []

    async def comes_again() -> bool:
        again.extend(message.tries for message in await queue.receive() if message.text == "a")
        return bool(again)

    await eventually(comes_again)
    assert again == [2]
    await queue.delete(first[0])  # somebody else's by now: no error, and no loss
    await eventually(comes_again)
    for message in first:
        await queue.delete(message)


async def test_what_is_set_aside_is_in_the_poison_queue_as_it_was(site: Platform) -> None:
    await site.write("<no event>")
    queue = site.queue(poison_queue="poison")
    (message,) = await queue.receive()
    await queue.set_aside(message)
    await queue.delete(message)
    assert (await site.texts(), await site.texts("poison")) == ([], ["<no event>"])
    with pytest.raises(QueueUnavailableError) as raised:
        await site.queue(poison_queue="nowhere").set_aside(message)
    assert (raised.value.trouble, raised.value.code) == (QueueTrouble.MISSING, "QueueNotFound")


async def test_a_full_batch_of_the_longest_messages_is_taken(site: Platform) -> None:
    longest = "&" * 64 * 1024
    await asyncio.gather(*(site.write(longest) for _ in range(32)))
    messages = await site.queue(batch=32).receive()
    assert [message.text == longest for message in messages] == [True] * 32


async def test_a_queue_or_an_account_that_is_not_there_is_missing(site: Platform) -> None:
    assert await trouble_of(site.queue(queue=f"https://{HOST}/nowhere")) == (QueueTrouble.MISSING, "QueueNotFound")
    other = site.queue(queue=f"https://{site.storage.address}/nobody/events")
    assert await trouble_of(other) == (QueueTrouble.MISSING, "ResourceNotFound")


async def test_the_address_may_hold_the_account_as_emulators_have_it(site: Platform) -> None:
    await site.write("x")
    here = site.queue(queue=f"https://{site.storage.address}/byokdevents/events", poison_queue="poison")
    (message,) = await here.receive()
    await here.set_aside(message)
    assert await site.texts("poison") == ["x"]


async def test_a_token_for_another_audience_is_refused_and_another_is_asked_for(
    site: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = site.queue()
    with monkeypatch.context() as patch:
        patch.setattr("byokd.adapters.eventgrid.queue.SCOPE", "https://vault.azure.net/.default")
        patch.setattr(
            "azure.storage.queue._shared.base_client_async.STORAGE_OAUTH_SCOPE", "https://vault.azure.net/.default"
        )
        assert await trouble_of(site.queue()) == (QueueTrouble.TOKEN_REFUSED, "AuthenticationFailed")
    assert await queue.receive() == []


async def test_without_an_identity_there_is_no_token_and_no_request(site: Platform) -> None:
    asked = site.storage.log.count("GET /")
    assert await trouble_of(site.of(source(identity="nobody"))) == (QueueTrouble.NO_TOKEN, "IdentityUnknown")
    assert site.storage.log.count("GET /") == asked


async def test_a_storage_that_ended_or_that_nobody_vouches_for_cannot_be_reached(
    site: Platform, emulator: Emulator, storage: Azurite, tmp_path: Path
) -> None:
    # The emulator's certificate is good, but for other names.
    to = {**emulator.connect_to, HOST: next(iter(emulator.connect_to.values()))}
    async with platform(tmp_path, storage, azure=emulator.ca_file, connect_to=to) as other:
        assert await trouble_of(other.queue()) == (QueueTrouble.UNREACHABLE, "ClientConnectorCertificateError")
    await storage.end()
    assert (await trouble_of(site.queue()))[0] is QueueTrouble.UNREACHABLE
