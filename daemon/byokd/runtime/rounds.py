"""The calls of one piece of work against one vault, under one deadline; and how a version proves itself."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from byokd.domain.answers import OWN_LIMIT, Evidence, KeyFacts, NoAnswer, Refused
from byokd.domain.decide import CandidateAnswer
from byokd.domain.verdict import Probe
from byokd.domain.vocabulary import Reason
from byokd.ports import Clock, KeyService, KeyTarget, Randomness
from byokd.runtime.rationing import PATIENCE, Patience, own_limit

PROBE_BYTES = 32

_Answer = TypeVar("_Answer")


class Round:
    """The calls of one piece of work against one vault, under one deadline that started before the first.

    `cut` counts those that got no answer because the deadline, or our own limit, left them no time; `limited` is
    whether our own limit had a part in that.
    """

    def __init__(self, keys: KeyService, clock: Clock, *, deadline: timedelta) -> None:
        self._keys = keys
        self._clock = clock
        self._patience = Patience(clock.monotonic() + deadline.total_seconds())
        self.cut = 0
        self.limited = False

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        """GET, or `TimedOut` when the deadline has passed."""
        return await self._within("get", self._keys.get(target))

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        """Wrap, or `TimedOut` when the deadline has passed."""
        return await self._within("wrapKey", self._keys.wrap(target, plaintext))

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        """Unwrap, or `TimedOut` when the deadline has passed."""
        return await self._within("unwrapKey", self._keys.unwrap(target, wrapped))

    async def _within(self, operation: str, call: Awaitable[_Answer]) -> _Answer | NoAnswer:
        token = PATIENCE.set(self._patience)
        try:
            async with asyncio.timeout(max(0.0, self._patience.until - self._clock.monotonic())):
                answer = await call
        except TimeoutError:
            self.cut += 1
            if not self._patience.waited:
                return NoAnswer(Reason.TIMED_OUT, Evidence(operation))
            # A vault that got less than the whole time because of our own limit was not slow for all we know.
            self.limited = True
            return own_limit(operation)
        finally:
            PATIENCE.reset(token)
        if isinstance(answer, NoAnswer) and answer.evidence.code == OWN_LIMIT:
            self.cut += 1
            self.limited = True
        return answer


async def prove(calls: Round, target: KeyTarget, randomness: Randomness) -> CandidateAnswer:
    """Let a version wrap and unwrap a new probe; only the vault's own unwrap proves anything."""
    probe = randomness.bytes(PROBE_BYTES)
    wrapped = await calls.wrap(target, probe)
    if not isinstance(wrapped, bytes):
        return wrapped
    opened = await calls.unwrap(target, wrapped)
    if not isinstance(opened, bytes):
        return opened
    if not hmac.compare_digest(opened, probe):
        return NoAnswer(Reason.UNREADABLE_ANSWER, Evidence("unwrapKey"))
    return Probe(wrapped, hashlib.sha256(probe).digest())
