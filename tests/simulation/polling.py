"""Polls that find nothing cost most of a simulation: in most worlds they come more seldom than in production."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

SELDOM = {
    "due_keeping.FLUSH_INTERVAL": 60.0,
    "observer.INTERVAL": 120.0,
    "publisher.POLL": 30.0,
    "follower.POLL": 20.0,
    "own_faults.INTERVAL": 30.0,
    "rewrapper.POLL": 20.0,
}
"""Constants of the runtime, and their values in seconds. Nothing but how soon something is noticed rests on them."""


@contextmanager
def seldom(yes: bool) -> Iterator[None]:  # noqa: FBT001 - whether
    """Let byokd poll seldom inside."""
    before = []
    for path, seconds in SELDOM.items() if yes else ():
        name, constant = path.split(".")
        module = importlib.import_module(f"byokd.runtime.{name}")
        before.append((module, constant, getattr(module, constant)))
        assert isinstance(getattr(module, constant), timedelta)
        setattr(module, constant, timedelta(seconds=seconds))
    try:
        yield
    finally:
        for module, constant, value in before:
            setattr(module, constant, value)
