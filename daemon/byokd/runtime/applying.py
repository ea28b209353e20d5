"""Applies many accounts: those of one vault one after the other, different vaults side by side."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final

import structlog

from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import VaultHost
from byokd.ports import Clock, StoreUnavailableError
from byokd.runtime.registrar import Action, Registrar, Result
from byokd.runtime.silences import Silences

VAULTS_AT_ONCE = 16
"""Enough that a few slow vaults do not hold up the rest; few enough that the checks go on undisturbed."""

FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(seconds=20)
"""Between two looks whether a grant is known by now. Each costs a vault three calls, however many accounts wait."""

_log = structlog.get_logger()
_Numbered = tuple[int, AccountSpec]
Told = Callable[[Result | int], None]


def _silently(_: Result | int) -> None:
    """Tell nobody."""


async def apply_all(
    registrar: Registrar,
    specs: Sequence[AccountSpec],
    *,
    clock: Clock,
    wait_for_grant: timedelta,
    tell: Told = _silently,
) -> list[Result]:
    """Bring accounts to what is wanted, and give what became of each, in the order of `specs`.

    A vault that gives no answer is asked once: the rest of what needs it is refused at once. When the store fails,
    what is not done yet is refused, and the results so far are kept. What lacks a grant is tried again for
    `wait_for_grant`, once everything else is done. `tell` hears each result that is final, and before each wait how
    many accounts wait.
    """
    return await _Applying(registrar, specs, clock, tell).run(wait_for_grant)


class _Applying:
    """One apply, from its beginning to its end."""

    def __init__(self, registrar: Registrar, specs: Sequence[AccountSpec], clock: Clock, tell: Told) -> None:
        self._registrar = registrar
        self._specs = specs
        self._clock = clock
        self._tell = tell
        self._results: dict[int, Result] = {}
        self._silences = Silences()
        self._trouble: StoreUnavailableError | None = None

    async def run(self, wait_for_grant: timedelta) -> list[Result]:
        await self._pass(enumerate(self._specs))
        until, pause = self._clock.monotonic() + wait_for_grant.total_seconds(), FIRST_PAUSE.total_seconds()
        while (waiting := self._ungranted()) and (left := until - self._clock.monotonic()) > 0:
            self._tell(len(waiting))
            await self._clock.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE.total_seconds())
            self._silences.forget_grants()
            await self._pass(waiting)
        for number, _ in self._ungranted():
            self._tell(self._results[number])
        return [self._results[number] for number in range(len(self._specs))]

    def _ungranted(self) -> list[_Numbered]:
        return [(number, spec) for number, spec in enumerate(self._specs) if self._results[number].missing]

    async def _pass(self, numbered: Iterable[_Numbered]) -> None:
        by_vault: dict[VaultHost | None, list[_Numbered]] = {}
        for number, spec in numbered:
            host = None if spec.customer_key is None else spec.customer_key.key.host
            by_vault.setdefault(host, []).append((number, spec))
        vaults = iter(list(by_vault.values()))
        async with asyncio.TaskGroup() as group:
            for number in range(min(VAULTS_AT_ONCE, len(by_vault))):
                group.create_task(self._work(vaults), name=f"apply-{number}")

    async def _work(self, vaults: Iterator[Sequence[_Numbered]]) -> None:
        for specs in vaults:
            for number, spec in specs:
                result = self._results[number] = await self._apply(spec)
                if not result.missing:
                    self._tell(result)

    async def _apply(self, spec: AccountSpec) -> Result:
        if self._trouble is not None:
            return _refused(spec, "not tried", self._trouble)
        try:
            return await self._registrar.apply(spec, self._silences)
        except StoreUnavailableError as error:
            _log.warning("apply-broken-off", account=str(spec.id))
            self._trouble = error
            return _refused(spec, "perhaps not applied", error)


def _refused(spec: AccountSpec, what: str, error: StoreUnavailableError) -> Result:
    return Result(spec.id, Action.REFUSED, f"{what}: {error}", f"{error.hint}; then apply again")
