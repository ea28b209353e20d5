"""An event loop on virtual time that does the same in every process: nothing in it waits, or hangs on an address."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Task(asyncio.Task[Any]):
    """A task that sets keep in an order of their own: the default one is that of addresses, as in a TaskGroup."""

    _made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as asyncio.Task
        _Task._made += 1
        self._number = _Task._made
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _Skipping(selectors.SelectSelector):
    """Nothing ever comes from outside: to wait is to let time go by."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing that time will bring")
        if timeout > 0:
            self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 0 and goes by only while nobody has anything to do."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)
        self._clock_resolution = 1e-9
        _Task._made = 0
        self.set_task_factory(lambda loop, coro, **how: _Task(coro, loop=loop, **how))

    def time(self) -> float:
        return self._skipping.now

    def _make_self_pipe(self) -> None:
        """No thread ever has to wake it."""

    def _close_self_pipe(self) -> None:
        """See `_make_self_pipe`."""


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)
