"""The collector of Python, where most of what there is stays to the end: it takes a tenth of all time otherwise."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 10_000
"""Objects that are made before the youngest are looked through: some megabytes may wait for that. Python's is 700."""


def spare() -> None:
    """Look no more through what is there by now, and more seldom through the rest, which is found all the same."""
    gc.collect()
    gc.freeze()
    _, middle, oldest = gc.get_threshold()
    gc.set_threshold(SELDOM, middle, oldest)


@contextmanager
def after_all() -> Iterator[None]:
    """Leave alone what is made meanwhile, most of which stays; in the end, once, what is of no use is found."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        spare()
