"""The broker: takes messages, and loses connections, refuses, or forgets what it had taken."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from byokd.ports import BusMessage, BusRefusedError, BusUnavailableError
from simulation.life import Life
from simulation.trace import Trace

LATENCY = 0.002


@dataclass(slots=True)
class Memory:
    """What a broker has on its disk: what it retains, and the ids of events that a subscriber may still fetch."""

    retained: dict[str, bytes] = field(default_factory=dict)
    kept: dict[str, None] = field(default_factory=dict)

    def copy(self) -> "Memory":
        return Memory(dict(self.retained), dict(self.kept))


class SimBroker:
    """MQTT as the port sees it."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.life = Life(0, 0.0)
        self.memory = Memory()
        self.down = False
        self.touched = 0.0
        self.refuses = ""
        self.drops_next: list[str] = []
        self.on_message: Callable[[BusMessage], None] = lambda _: None
        self._sessions: list[SimSession] = []

    def drop(self) -> None:
        """Break every connection."""
        self.touch()
        for session in self._sessions:
            session.gone.set()

    def touch(self) -> None:
        self.touched = asyncio.get_running_loop().time()

    def crash(self, memory: Memory) -> None:
        """Come back as the disk was at some time before."""
        self.memory = memory
        self.drop()

    @asynccontextmanager
    async def connect(self, client_id: str, *, will: BusMessage | None = None) -> AsyncIterator["SimSession"]:
        self.life.pass_by("bus connect")
        await asyncio.sleep(LATENCY)
        if self.down:
            raise BusUnavailableError(f"no broker for {client_id}")
        session = SimSession(self, self.life)
        self._sessions.append(session)
        self._trace.note(f"bus connect {client_id}")
        try:
            yield session
        finally:
            self._sessions.remove(session)
            if will is not None and session.gone.is_set() and not self.down:
                self.take(will)

    def take(self, message: BusMessage) -> None:
        """Accept a message."""
        self._trace.note(f"bus {message.topic} {len(message.payload)} {message.payload[:90]!r}")
        if message.retain and message.payload:
            self.memory.retained[message.topic] = message.payload
        elif message.retain:
            self.memory.retained.pop(message.topic, None)
        self.on_message(message)


class SimSession:
    """One connection."""

    def __init__(self, broker: SimBroker, life: Life) -> None:
        self._broker = broker
        self._life = life
        self.gone = asyncio.Event()

    async def publish(self, message: BusMessage) -> None:
        self._life.pass_by("bus publish")
        broker = self._broker
        await asyncio.sleep(LATENCY)
        fate = broker.drops_next.pop() if broker.drops_next else "taken"
        if self.gone.is_set() or fate == "lost":
            self.gone.set()
            broker.touch()
            raise BusUnavailableError("the connection was lost")
        if broker.refuses and broker.refuses in message.topic:
            broker.touch()
            broker._trace.count("broker: refused a message")
            raise BusRefusedError("not authorized")
        broker.take(message)
        if fate == "taken, not acknowledged":
            self.gone.set()
            broker.touch()
            raise BusUnavailableError("the connection was lost")
        self._life.pass_by("bus published")

    async def retained(self, topic: str) -> bytes | None:
        self._life.pass_by("bus retained")
        await asyncio.sleep(LATENCY)
        if self.gone.is_set():
            raise BusUnavailableError("the connection was lost")
        return self._broker.memory.retained.get(topic)

    async def lost(self) -> None:
        await self.gone.wait()
