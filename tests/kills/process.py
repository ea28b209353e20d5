"""The daemon as it is, over guarded ports: the tests' own wiring. Nothing in byokd knows of it."""

import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from byokd.cli import main as command_line
from byokd.cli import serving
from byokd.runtime import due_keeping, follower, housekeeper, marker, observer, resealer, rewrapper
from byokd.runtime.outside import Outside
from byokd.runtime.wiring import Service, Wired, wire
from byokd.settings import Settings
from kills.plants import PLANTS
from kills.points import Gate, Orders, guarded

_SOON = timedelta(seconds=0.3)
"""Everything that is looked at every few seconds is looked at this often, so that a test need not wait for it."""


@dataclass(frozen=True, slots=True)
class GuardedWire:
    """Wires as byokd does, then puts a gate in front of every port, and a planted mistake in front of that."""

    gate: Gate
    plant: str | None

    async def __call__(self, settings: Settings, stack: AsyncExitStack) -> Wired:
        wired = await wire(settings, stack)
        outside: Outside = guarded(wired.service.outside, self.gate)
        if self.plant is not None:
            outside = PLANTS[self.plant](outside, settings)
        return replace(wired, service=Service(settings, outside))


def run(order: dict[str, Any]) -> None:
    """Run `byokd run` to its end; does not return."""
    directory = Path(order["directory"])
    os.environ.update(order["environment"])
    for module, name in (
        (follower, "POLL"),
        (housekeeper, "INTERVAL"),
        (marker, "INTERVAL"),
        (observer, "INTERVAL"),
        (resealer, "POLL"),
        (rewrapper, "POLL"),
        (due_keeping, "FLUSH_INTERVAL"),
    ):
        assert hasattr(module, name)
        setattr(module, name, _SOON)
    gate = Gate(Orders(directory / "orders"), directory / "trace")
    setattr(serving, "wire", GuardedWire(gate, order.get("plant")))  # noqa: B010 - mypy: it is not a function
    sys.argv = ["byokd", "run", "--settings", str(directory / "byokd.toml")]
    command_line.main()
