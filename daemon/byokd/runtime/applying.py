"""Applies many accounts: those of one vault one after the other, different vaults side by side."""

import asyncio
from collections.abc import Iterator, Sequence

import structlog

from byokd.domain.accounts import AccountSpec
from byokd.domain.identifiers import VaultHost
from byokd.ports import StoreUnavailableError
from byokd.runtime.registrar import Action, Registrar, Result, Silences

VAULTS_AT_ONCE = 16
"""Enough that a few slow vaults do not hold up the rest; few enough that the checks go on undisturbed."""

_log = structlog.get_logger()
_Numbered = tuple[int, AccountSpec]


async def apply_all(registrar: Registrar, specs: Sequence[AccountSpec]) -> list[Result]:
    """Bring accounts to what is wanted, and give what became of each, in the order of `specs`.

    A vault that gives no answer is asked once: the rest of what needs it is refused at once. When the store fails,
    what is not done yet is refused, and the results so far are kept.
    """
    return await _Applying(registrar, specs).run()


class _Applying:
    """One apply, from its beginning to its end."""

    def __init__(self, registrar: Registrar, specs: Sequence[AccountSpec]) -> None:
        self._registrar = registrar
        self._results: list[Result | None] = [None] * len(specs)
        self._silences = Silences()
        self._trouble: StoreUnavailableError | None = None
        by_vault: dict[VaultHost | None, list[_Numbered]] = {}
        for number, spec in enumerate(specs):
            host = None if spec.customer_key is None else spec.customer_key.key.host
            by_vault.setdefault(host, []).append((number, spec))
        self._vaults = list(by_vault.values())

    async def run(self) -> list[Result]:
        waiting = iter(self._vaults)
        async with asyncio.TaskGroup() as group:
            for number in range(min(VAULTS_AT_ONCE, len(self._vaults))):
                group.create_task(self._work(waiting), name=f"apply-{number}")
        return [result for result in self._results if result is not None]

    async def _work(self, waiting: Iterator[Sequence[_Numbered]]) -> None:
        for specs in waiting:
            for number, spec in specs:
                self._results[number] = await self._apply(spec)

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
