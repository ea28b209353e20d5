"""What the steps of the story are made of, and how they look at the stage."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from byokd.demo.processes import byokd_command
from byokd.demo.stage import Stage
from byokd.demo.watcher import Watcher
from byokd.emulator.client import ControlClient

CUSTOMERS = ("contoso", "fabrikam", "northwind")
"""Two accounts on one versionless key, and one pinned to its first version."""

EVERYONE = (*CUSTOMERS, "ownkey")

VAULT, KEY = "contoso-keys", "media"

PATIENCE = 20.0
"""Seconds to wait for what must happen; with the demo's intervals it takes two or three."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a step."""

    words: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What a verb answered: its exit code, what it printed, and what it said on standard error."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, what happens in plain words, what must follow, and how to do and judge it."""

    name: str
    happens: str
    expected: str
    play: Callable[[], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Scene:
    """The stage as the steps look at it."""

    stage: Stage

    @property
    def watcher(self) -> Watcher:
        """The independent subscriber."""
        return self.stage.watcher

    @property
    def control(self) -> ControlClient:
        """What a customer or bad luck does."""
        return self.stage.control

    def all_in(self, state: str, names: Sequence[str]) -> bool:
        """Tell whether the bus has all these accounts in a state."""
        return all(self.watcher.state(name).get("state") == state for name in names)

    def current(self, name: str) -> str:
        """Give the version that wraps an account's key, as the bus has it."""
        return str(self.watcher.state(name).get("currentKeyIdentifier"))

    def gaps(self) -> int:
        """Count the accounts of which an event was not heard, or not in its place. Repetitions are none."""
        gaps = 0
        for name in EVERYONE:
            events = [one for one in self.watcher.heard if one.topic.endswith(f"/{name}/events")]
            sequences = list(dict.fromkeys(one.data["sequence"] for one in events))
            gaps += sequences != list(range(1, len(sequences) + 1))
        return gaps

    def outcome(self, took: float | None, words: str) -> Seen:
        """Judge a wait for the bus."""
        if took is not None:
            return Seen(f"{words}{after(took)}", ok=True)
        states = ", ".join(f"{name} {self.watcher.state(name).get('state')}" for name in EVERYONE)
        return Seen(f"not within {PATIENCE:.0f} s: {states}", ok=False)

    async def byokd(self, *arguments: str) -> tuple[int, str]:
        """Run a verb as a user would."""
        said = await self.ask(*arguments)
        return said.code, said.out.decode() + said.err

    async def ask(self, *arguments: str, given: bytes = b"", **environment: str) -> Said:
        """Run a verb with something on its standard input."""
        process = await asyncio.create_subprocess_exec(
            *byokd_command(*arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | self.stage.environment | environment,
        )
        out, err = await process.communicate(given)
        return Said(process.returncode or 0, out, err.decode())

    def returning(self, name: str, happens: str, act: Callable[[], Awaitable[object]]) -> Step:
        """Give a step in which something is put right, and all accounts must work again by themselves."""

        async def play() -> Seen:
            await act()
            took = await self.watcher.until(lambda: self.all_in("Accessible", EVERYONE), seconds=PATIENCE)
            return self.outcome(took, "all four Accessible")

        return Step(name, happens, "all four are Accessible by themselves", play)

    async def disable_key(self) -> None:
        """What a customer does to revoke."""
        await self.control.disable_key(VAULT, KEY, "all")

    async def enable_key(self) -> None:
        """And to take that back."""
        await self.control.enable_key(VAULT, KEY, "all")


def after(took: float | None) -> str:
    """Give a time in words."""
    return "" if took is None else f" after {took:.1f} s"
