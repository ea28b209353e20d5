"""Requests during the exchange of an application: none is lost, none is torn apart."""

import asyncio
from datetime import timedelta

import pytest
from starlette.types import Message, Receive, Scope, Send

from byokd.http.switching import RELOAD_PATH, RequestsUnderWayError, Switchable

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

WITHIN = timedelta(seconds=30)


class Application:
    """Takes ten seconds for each request."""

    def __init__(self) -> None:
        self.served: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        await asyncio.sleep(10)
        self.served.append(scope["method"])


async def request(switchable: Switchable, method: str, path: str = "/accounts") -> None:
    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(_: Message) -> None:
        return

    await switchable({"type": "http", "method": method, "path": path}, receive, send)


async def test_changes_under_way_end_first_and_new_ones_wait_for_the_other_application() -> None:
    one, other = Application(), Application()
    switchable = Switchable(one)
    async with asyncio.TaskGroup() as group:
        group.create_task(request(switchable, "POST"))
        await asyncio.sleep(1)
        async with switchable.held(within=WITHIN):
            assert one.served == ["POST"]
            group.create_task(request(switchable, "DELETE"))
            await asyncio.sleep(60)
            assert other.served == []
            switchable.exchange(other)
    assert other.served == ["DELETE"]


async def test_reading_and_the_reload_itself_hold_nothing_up() -> None:
    one = Application()
    switchable = Switchable(one)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(request(switchable, "GET"))
        group.create_task(request(switchable, "POST", RELOAD_PATH))
        await asyncio.sleep(1)
        begun = loop.time()
        async with switchable.held(within=WITHIN):
            assert loop.time() == begun


async def test_a_change_that_takes_too_long_stays_with_its_application_and_all_goes_on() -> None:
    one = Application()
    switchable = Switchable(one)
    async with asyncio.TaskGroup() as group:
        group.create_task(request(switchable, "POST"))
        await asyncio.sleep(1)
        with pytest.raises(RequestsUnderWayError):
            async with switchable.held(within=timedelta(seconds=2)):
                raise AssertionError
        group.create_task(request(switchable, "DELETE"))
    assert one.served == ["POST", "DELETE"]
