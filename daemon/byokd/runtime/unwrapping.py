"""Live unwraps of account keys for use: bounded, and one at a time per account, however many uses wait for it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from byokd.domain.answers import Refused
from byokd.domain.identifiers import AccountId, VaultHost
from byokd.domain.payload import PayloadInvalidError
from byokd.ports import Clock, KeyTarget, SealBrokenError, ServiceKeyMissingError
from byokd.records import Gate
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError
from byokd.runtime.damages import Damages, does_not_open
from byokd.runtime.doubts import Doubts
from byokd.runtime.metrics import Metrics, Opening
from byokd.runtime.unusable import RecordDamagedError, UnavailableError, UnusableError, damaged, not_unwrapped

MOST: Final = 64
"""Unwraps for uses at once. At the bound further uses are refused: who waits would wait for others' time-outs."""

MOST_OF_A_VAULT: Final = 8
"""Of those against one vault, so that one that hangs leaves the others their share."""


@dataclass(frozen=True, slots=True)
class Place:
    """What an account key is opened from; opened from another place, it is another one."""

    account: AccountId
    incarnation: str
    generation: int
    target: KeyTarget | None

    @classmethod
    def of(cls, gate: Gate) -> "Place":
        """Give the place behind a gate; no target under the system key."""
        account, key = gate.account, gate.wrapped.key_identifier
        customer_key, target = account.spec.customer_key, None
        if customer_key is not None and key is not None:
            target = KeyTarget(customer_key.identity, account.spec.tenant, key)
        return cls(account.id, account.incarnation, gate.wrapped.generation, target)


@dataclass(frozen=True, slots=True, repr=False)
class OpenedKey:
    """An account key in the clear. `asked` and `asked_at` are when its unwrap began: its age counts from there."""

    account_key: bytes
    place: Place
    asked: float
    asked_at: datetime

    def __repr__(self) -> str:
        return "OpenedKey(...)"


@dataclass(slots=True, repr=False)
class _Flight:
    """An unwrap on its way."""

    asked: float
    asked_at: datetime
    opened: OpenedKey | None = None
    error: UnusableError | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class LiveUnwraps:
    """Unwraps account keys now; keeps nothing."""

    def __init__(
        self, account_keys: AccountKeys, doubts: Doubts, damages: Damages, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._damages = damages
        self._account_keys = account_keys
        self._doubts = doubts
        self._clock = clock
        self._metrics = metrics
        self._flights: dict[tuple[Place, bool], _Flight] = {}
        self._running: Counter[VaultHost] = Counter()

    async def open(self, gate: Gate) -> OpenedKey | None:
        """Unwrap, or wait for the unwrap of the same key that is on its way; None when that one was broken off.

        An unwrap on its way is joined only if no denial was met since it began, and if what it was begun on knew of the
        suspicion that this gate shows.

        Raises:
            InaccessibleError: the vault refused.
            UnavailableError: it gave no answer, or a service key is missing, or too many unwraps are on their way.
            RecordDamagedError: the record does not open; AccountDamagedError once that is proved and noted.
            StoreUnavailableError: it does not open, and what that means could not be noted.
        """
        place = Place.of(gate)
        key = (place, gate.is_suspected)
        flight = self._flights.get(key)
        if flight is None or (place.target is not None and self._doubts.denied_since(place.target, flight.asked)):
            return await self._lead(gate, place, key)
        await flight.done.wait()
        if flight.error is not None:
            raise _again(flight.error)
        return flight.opened

    async def _lead(self, gate: Gate, place: Place, key: tuple[Place, bool]) -> OpenedKey:
        host = None if place.target is None else place.target.key.host
        self._check_bounds(host)
        flight = self._flights[key] = _Flight(self._clock.monotonic(), self._clock.now())
        if host is not None:
            self._running[host] += 1
        try:
            flight.opened = OpenedKey(await self._unwrap(gate, place), place, flight.asked, flight.asked_at)
        except UnusableError as error:
            flight.error = error
            raise
        finally:
            if host is not None:
                self._running[host] -= 1
                self._running += Counter()  # without those at nought
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.done.set()
        return flight.opened

    def _check_bounds(self, host: VaultHost | None) -> None:
        if host is not None and (self._running[host] >= MOST_OF_A_VAULT or self._running.total() >= MOST):
            raise UnavailableError("too many account keys are being unwrapped", hint="try again in a few seconds")

    async def _unwrap(self, gate: Gate, place: Place) -> bytes:
        """Unwrap, with every failure in words for people."""
        opens = self._metrics.account_key_opens
        try:
            payload = await self._account_keys.open(gate.wrapped, place.target)
        except VaultRefusedError as error:
            opens.labels(Opening.REFUSED if isinstance(error.answer, Refused) else Opening.UNANSWERED).inc()
            await self._refuse_damaged(gate, error)
            raise not_unwrapped(error) from None
        except ServiceKeyMissingError as error:
            opens.labels(Opening.UNANSWERED).inc()
            raise UnavailableError(str(error), hint="put the service key back and restart byokd") from None
        except (PayloadInvalidError, SealBrokenError) as error:
            opens.labels(Opening.DAMAGED).inc()
            if isinstance(error, PayloadInvalidError) and place.target is not None:
                # The vault gave another value than it was given: whether that is its key, the check's probe will tell.
                self._doubts.report(place.target)
            await self._refuse_damaged(gate, error)
            raise RecordDamagedError(
                f"the account key does not open: {error}", hint="keep the database; a backup may hold a good record"
            ) from None
        opens.labels(Opening.UNWRAPPED).inc()
        return payload.account_key

    async def _refuse_damaged(self, gate: Gate, error: Exception) -> None:
        if does_not_open(error) and (damage := await self._damages.look_into(gate.wrapped)) is not None:
            raise damaged(damage) from None


def _again(error: UnusableError) -> UnusableError:
    """Give the same refusal anew: one exception raised by many tasks would gather all their tracebacks."""
    anew = error.__class__.__new__(error.__class__)
    anew.args, anew.__dict__ = error.args, dict(error.__dict__)
    return anew
