"""Threads for looking up names, which the end of the process does not wait for.

A lookup cannot be broken off, and the system's resolver may try for ten seconds and more. The threads of the standard
library's executor are joined when the interpreter ends; these are not.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LookupThreads(Executor):
    """At most so many, made as they are needed; what comes beyond waits in line."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._line: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._waiting: set[Future[Any]] = set()
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it in a thread.

        Raises:
            RuntimeError: it was shut down.
        """
        asked: Future[T] = Future()

        def work() -> None:
            if not asked.set_running_or_notify_cancel():
                return
            try:
                asked.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is the asker's
                asked.set_exception(error)

        with self._lock:
            if self._closed:
                raise RuntimeError("no lookup begins any more")
            self._waiting = {one for one in self._waiting if not (one.running() or one.done())} | {asked}
            self._line.put(work)
            if not self._idle.acquire(blocking=False) and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._serve, name=f"lookup-{self._threads}", daemon=True).start()
        return asked

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the base's
        """Begin nothing more. Nobody is waited for, whatever `wait` says; what waits in line is given up if wanted."""
        with self._lock:
            self._closed = True
            for one in self._waiting if cancel_futures else ():
                one.cancel()
            for _ in range(self._threads):
                self._line.put(None)

    def _serve(self) -> None:
        while (work := self._line.get()) is not None:
            work()
            self._idle.release()
