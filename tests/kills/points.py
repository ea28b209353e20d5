"""Fail points: before and after every call of every port, found by looking at the ports and not by a list of them."""

import inspect
import mmap
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, get_args, get_origin, get_type_hints

from byokd.runtime.outside import Outside

HARMLESS = frozenset({"clock", "randomness", "ids", "vault_times"})
"""Ports that touch nothing outside the process."""

RECORD = "record"
NOTHING = ""
AT_RANDOM = "at random"
"""No point has this name: the death comes from outside."""

_BYTES = 256


class Orders:
    """What the test wants of the daemon: nothing, a record of the points reached, or death at one of them.

    A page of memory shared by a file, so that an order holds from the very next call on, and survives its taker.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _BYTES)
        self._serial = 0

    def give(self, order: str) -> None:
        self._serial += 1
        self._page[:] = f"{self._serial} {order}".encode().ljust(_BYTES, b"\0")

    def take(self) -> bytes:
        return self._page[:]


@dataclass(slots=True)
class Outcome:
    result: object = None


class Gate:
    """Where every call comes by. Calls are counted anew with every order."""

    def __init__(self, orders: Orders, trace: Path) -> None:
        self._orders = orders
        self._trace = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._taken, self._order = b"", NOTHING
        self._calls: Counter[str] = Counter()

    def pass_by(self, point: str) -> None:
        taken = self._orders.take()
        if taken != self._taken:
            self._taken, self._order = taken, taken.rstrip(b"\0").decode().partition(" ")[2]
            self._calls.clear()
        if self._order == NOTHING:
            return
        self._calls[point] += 1
        reached = f"{point}:{self._calls[point]}"
        if self._order in (RECORD, reached):
            os.write(self._trace, f"{reached}\n".encode())
        if self._order == reached:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def around(self, call: str) -> Iterator[Outcome]:
        """Pass by before a call, and after it by what came of it: another answer is another moment."""
        self.pass_by(f"{call}:before")
        outcome = Outcome()
        try:
            yield outcome
        except Exception as error:
            self.pass_by(f"{call}:after {type(error).__name__}")
            raise
        self.pass_by(f"{call}:after {'nothing' if _is_empty(outcome.result) else type(outcome.result).__name__}")


def guarded(outside: Outside, gate: Gate) -> Outside:
    """Give the same ports, every call of which passes the gate before and after."""
    return replace(outside, **{name: _guard(name, port, getattr(outside, name), gate) for name, port in ports()})


def ports() -> list[tuple[str, type]]:
    """Give the ports that reach outside, by their names in the wiring."""
    hints = get_type_hints(Outside)
    return [(field.name, _each(hints[field.name])) for field in fields(Outside) if field.name not in HARMLESS]


def _each(declared: Any) -> type:  # noqa: ANN401 - as it is annotated
    """Give the port; where there are several by name, that of each."""
    port = get_args(declared)[1] if get_origin(declared) is Mapping else declared
    assert isinstance(port, type)
    return port


def port_methods() -> set[str]:
    """Name every method behind which something happens outside, sessions of the bus included."""
    found: set[str] = set()
    for name, port in ports():
        for method, function in _methods(port).items():
            found.add(f"{name}.{method}")
            if (opened := _opens(function)) is not None:
                found |= {f"{name}-session.{inner}" for inner in _methods(opened)}
    return found


def _guard(name: str, port: type, target: object, gate: Gate) -> Any:  # noqa: ANN401 - it looks like the port
    if isinstance(target, Mapping):
        return {key: _guard(name, port, value, gate) for key, value in target.items()}
    values = {value: property(lambda _, value=value: getattr(target, value)) for value in _values(port)}
    guard = type(f"Guarded{port.__name__}", (), values)()
    for method, function in _methods(port).items():
        setattr(guard, method, _guarded_call(f"{name}.{method}", function, getattr(target, method), gate))
    return guard


def _guarded_call(point: str, declared: Callable[..., Any], call: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    if (opened := _opens(declared)) is not None:
        return lambda *args, **kwargs: _GuardedContext(point, opened, call(*args, **kwargs), gate)
    if inspect.iscoroutinefunction(declared):

        async def asynchronous(*args: object, **kwargs: object) -> object:
            with gate.around(point) as outcome:
                outcome.result = await call(*args, **kwargs)
            return outcome.result

        return asynchronous

    def synchronous(*args: object, **kwargs: object) -> object:
        with gate.around(point) as outcome:
            outcome.result = call(*args, **kwargs)
        return outcome.result

    return synchronous


class _GuardedContext:
    """Opening is the call; what is opened is a port in its own right."""

    def __init__(self, point: str, opened: type, context: AbstractAsyncContextManager[object], gate: Gate) -> None:
        self._point, self._opened, self._context, self._gate = point, opened, context, gate

    async def __aenter__(self) -> object:
        with self._gate.around(self._point) as outcome:
            outcome.result = inner = await self._context.__aenter__()
        return _guard(f"{self._point.partition('.')[0]}-session", self._opened, inner, self._gate)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._context.__aexit__(kind, error, trace)


def _is_empty(result: object) -> bool:
    """Whether a call found nothing to do: no rows, none carried, none erased."""
    if is_dataclass(result) and not isinstance(result, type):
        return not any(getattr(result, part.name) for part in fields(result))
    return result is not None and not result


def _methods(port: type) -> dict[str, Callable[..., Any]]:
    """Give the methods that a Protocol asks for, those of its own bases too."""
    return {name: member for name, member in _members(port).items() if inspect.isfunction(member)}


def _values(port: type) -> list[str]:
    """Name what a Protocol has that is read and not called."""
    return [name for name, member in _members(port).items() if isinstance(member, property)]


def _members(port: type) -> dict[str, object]:
    found: dict[str, object] = {}
    for part in reversed(port.__mro__):
        if getattr(part, "_is_protocol", False):
            found |= vars(part)
    return {name: member for name, member in found.items() if not name.startswith("_")}


def _opens(declared: Callable[..., Any]) -> type | None:
    """Give the port that a method opens as a context; None for an ordinary method."""
    returned = get_type_hints(declared).get("return")
    if get_origin(returned) is not AbstractAsyncContextManager:
        return None
    opened = get_args(returned)[0]
    assert isinstance(opened, type)
    return opened
