"""Bells, on virtual time: no test here waits in earnest."""

import asyncio

import pytest

from byokd.runtime.waking import Bell

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_wait_ends_when_its_time_has_passed() -> None:
    started = now()
    await Bell().wait(90.0)
    assert now() - started == pytest.approx(90.0)


@pytest.mark.parametrize("seconds", [None, 90.0])
async def test_a_wait_ends_when_the_bell_is_rung(seconds: float | None) -> None:
    bell, started = Bell(), now()
    asyncio.get_running_loop().call_later(7.0, bell.ring)
    await bell.wait(seconds)
    assert now() - started == pytest.approx(7.0)


async def test_rings_while_nobody_waits_are_kept_as_one() -> None:
    bell, started = Bell(), now()
    bell.ring()
    bell.ring()
    await bell.wait(90.0)
    assert now() - started == 0.0
    await bell.wait(5.0)
    assert now() - started == pytest.approx(5.0)


async def test_a_bell_that_was_rung_is_heard_however_short_the_wait() -> None:
    bell = Bell()
    for seconds in (0.0, -1.0):
        bell.ring()
        await bell.wait(seconds)
        await bell.wait(seconds)
    assert now() >= 0.0


async def test_a_cancelled_wait_loses_no_ring() -> None:
    bell = Bell()
    waiting = asyncio.create_task(bell.wait(None))
    await asyncio.sleep(0)
    bell.ring()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    started = now()
    await bell.wait(90.0)
    assert now() - started == 0.0


async def test_a_deadline_around_a_wait_is_not_taken_for_its_own() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await Bell().wait(90.0)
