"""The queues that Event Grid delivers to: can they be read?"""

import asyncio
from collections.abc import Sequence
from typing import Final

from byokd.ports.examining import Instruments
from byokd.ports.queues import EventQueue, QueueTrouble, QueueUnavailableError
from byokd.runtime.findings import Finding, bad, ok
from byokd.runtime.queue_words import words_of

QUEUES: Final = "event-queues"


async def examine_queues(instruments: Instruments, *, seconds: float) -> Sequence[Finding]:
    """Peek into each, which takes nothing and needs the same token and role as reading; none: no finding."""
    queues = instruments.queues
    troubles = await asyncio.gather(*(_trouble(queue, seconds=seconds) for queue in queues.values()))
    findings = []
    for source, trouble in zip(queues, troubles, strict=True):
        if trouble is None:
            findings.append(ok(QUEUES, f"the queue of {source} can be read"))
        else:
            message, hint = words_of(trouble)
            findings.append(bad(QUEUES, f"the queue of {source}: {message}", hint=hint))
    return findings


async def _trouble(queue: EventQueue, *, seconds: float) -> QueueUnavailableError | None:
    try:
        async with asyncio.timeout(seconds):
            await queue.peek()
    except TimeoutError:
        return QueueUnavailableError(QueueTrouble.TIMED_OUT)
    except QueueUnavailableError as error:
        return error
    return None
