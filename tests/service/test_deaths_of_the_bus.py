"""Ten thousand changes of state, while broker and daemon die by `kill -9`: a subscriber misses and mixes up none.

Everything is a process of its own: the daemon, mosquitto as deploy/mosquitto has it, and Azure in miniature. Only the
subscriber is here: a session that outlives connections, and nothing else to rely on.

By default a broker that forgets does so over fewer changes; `make deaths` gives it as many, and as many deaths.
"""

import asyncio
import json
import os
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from byokd.demo.stage import Stage, set_stage
from parts.mosquitto import mosquitto
from parts.waiting import until
from service.support import KEY, VAULT, apply, byokd, customer, entry

ACCOUNTS, TURNS = 200, 50
BROKER_DIES = range(3, 50, 6)
DAEMON_DIES = range(6, 50, 12)
AS_MANY = os.environ.get("BYOKD_KILLS") == "all"
PATIENCE_SECONDS = 300 if AS_MANY else 60
"""A broker that came back old eight times gets thousands of events again, and saves after each."""

QUICKLY = {
    'interval = "1 s"': 'interval = "300 ms"',
    'confirm_after = "500 ms"': 'confirm_after = "200 ms"',
    'recheck_first = "500 ms"': 'recheck_first = "200 ms"',
    'recheck_most = "1 s"': 'recheck_most = "300 ms"',
}
DURABLE = ("persistence true", "autosave_interval 1", "autosave_on_changes true", "max_queued_messages 100000")


@dataclass
class Faithful:
    """A subscriber with a session: what it heard of each account, in order of arrival, each sequence once."""

    sequences: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    states: dict[str, tuple[int, str]] = field(default_factory=dict)
    repeated: int = 0
    connections: int = 0

    async def follow(self, address: str, prefix: str, *, name: str) -> None:
        host, _, port = address.rpartition(":")
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        while True:
            client = aiomqtt.Client(
                host,
                int(port),
                identifier=name,
                protocol=aiomqtt.ProtocolVersion.V5,
                clean_start=False,
                properties=session,
            )
            try:
                async with client:
                    await client.subscribe(f"{prefix}/accounts/#", qos=1)
                    self.connections += 1
                    async for message in client.messages:
                        self._take(str(message.topic), bytes(message.payload))
            except aiomqtt.MqttError:
                await asyncio.sleep(0.1)

    async def until(self, last: dict[str, tuple[int, str]]) -> None:
        """Wait until the last state and the last event of every account have come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            ends = {name: sequence for name, (sequence, _) in last.items()}
            while self.states != last or {name: heard[-1] for name, heard in self.sequences.items()} != ends:  # noqa: ASYNC110 - messages come
                await asyncio.sleep(0.05)

    def _take(self, topic: str, payload: bytes) -> None:
        data = json.loads(payload)["data"]
        account, sequence = data["account"].rpartition("/")[2], data["sequence"]
        if topic.endswith("/events"):
            if sequence in self.sequences[account]:
                self.repeated += 1
            else:
                self.sequences[account].append(sequence)
        elif sequence >= self.states.get(account, (0, ""))[0]:
            self.states[account] = sequence, data["state"]


@asynccontextmanager
async def following(address: str, prefix: str, *, name: str = "faithful") -> AsyncIterator[Faithful]:
    one = Faithful()
    task = asyncio.create_task(one.follow(address, prefix, name=name), name=name)
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.wait({task})


def committed(stage: Stage) -> dict[str, tuple[int, str]]:
    connection = sqlite3.connect(f"file:{stage.directory}/byokd.db?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT name, sequence, state FROM accounts").fetchall()
    finally:
        connection.close()
    return {name: (sequence, state) for name, sequence, state in rows}


async def all_in(stage: Stage, state: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while Counter(shown for _, shown in committed(stage).values()) != {state: ACCOUNTS}:  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.05)


async def prepare(stage: Stage) -> str:
    """Register the accounts, all on one key; give the prefix of the topics."""
    tenant = await customer(stage)
    path = stage.directory / "many.yaml"
    entries = "".join(entry(tenant, name=f"account{number:03d}", key=KEY) for number in range(ACCOUNTS))
    path.write_text(f"accounts:\n{entries}")
    settings = stage.directory / "byokd.toml"
    text = settings.read_text()
    for before, now in QUICKLY.items():
        assert before in text
        text = text.replace(before, now)
    settings.write_text(text)
    assert (await byokd("reload", environment=stage.environment)).code == 0
    assert (await apply(stage, path)).code == 0
    return text.partition('topic_prefix = "')[2].partition('"')[0]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the broker keeps what it has, also where it runs as another user.

    In memory where there is such a place: it saves after every message, each time with an fsync. What a process that
    dies has written survives there just as well.
    """
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    with tempfile.TemporaryDirectory(prefix="byokd-kept-", dir=memory if memory.is_dir() else None) as made:
        Path(made).chmod(0o777)
        yield Path(made)


@pytest.mark.real("mosquitto")
async def test_no_change_is_missed_or_mixed_up_over_deaths_of_broker_and_daemon(tmp_path: Path, place: Path) -> None:
    async with (
        mosquitto(tmp_path / "mosquitto", *DURABLE, f"persistence_location {place}/") as broker,
        set_stage(f"mqtt://{broker.address}") as stage,
    ):
        prefix = await prepare(stage)
        async with following(broker.address, prefix) as faithful:
            await until(lambda: len(faithful.states) == ACCOUNTS)
            before = committed(stage)
            for turn in range(TURNS):
                closing = turn % 2 == 0
                if turn in BROKER_DIES:
                    await broker.kill()
                await (stage.control.disable_key if closing else stage.control.enable_key)(VAULT, "media")
                if turn in DAEMON_DIES:
                    await stage.service.kill()
                    await stage.service.start()
                await all_in(stage, "Inaccessible" if closing else "Accessible")
                if turn in BROKER_DIES:
                    await broker.start()
            last = committed(stage)
            assert sum(last[name][0] - before[name][0] for name in last) == ACCOUNTS * TURNS

            await faithful.until(last)
        for name, (sequence, _) in last.items():
            # As docs/events.md has it: what is no higher is dropped, also what comes again from before we were there.
            # Whatever else was overtaken is missing then.
            heard = [number for number, most in with_highest(faithful.sequences[name]) if number == most]
            assert heard == list(range(heard[0], sequence + 1)), f"{name}: a gap, or mixed up"
            assert heard[0] <= before[name][0] + 1
        assert (len(BROKER_DIES), len(DAEMON_DIES)) == (8, 4)


KEPT = "mosquitto.db"
FORGETFUL_TURNS = TURNS if AS_MANY else 7
FORGETFUL_DIES = BROKER_DIES if AS_MANY else range(2, FORGETFUL_TURNS, 3)
DIES_BETWEEN = DAEMON_DIES if AS_MANY else range(4, 5)


class Forgetful:
    """What a broker finds when it comes back: nothing, or what it had kept a while ago."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._remembered: bytes | None = None

    def remember(self) -> None:
        """Copy the one file that it keeps, which it replaces at once and whole."""
        self._remembered = (self._place / KEPT).read_bytes()

    def forget(self) -> None:
        for file in self._place.iterdir():
            file.unlink()
        if self._remembered is not None:
            (self._place / KEPT).write_bytes(self._remembered)


def gaps(heard: list[int], *, last: int) -> int:
    """How often something is missing, between the first and up to the last."""
    return sum(after != before + 1 for before, after in pairwise(heard)) + (heard[-1] != last)


def with_highest(heard: list[int]) -> Iterator[tuple[int, int]]:
    return zip(heard, accumulate(heard, max), strict=True)


@pytest.mark.real("mosquitto")
@pytest.mark.parametrize("comes_back", ["empty", "old"])
async def test_a_broker_that_forgets_leaves_nobody_with_a_wrong_state(
    tmp_path: Path, place: Path, comes_back: str
) -> None:
    """As above, and whenever it died the broker is empty, or as it was two changes before; see docs/events.md."""
    memory = Forgetful(place)
    async with (
        mosquitto(tmp_path / "mosquitto", *DURABLE, f"persistence_location {place}/") as broker,
        set_stage(f"mqtt://{broker.address}") as stage,
    ):
        prefix = await prepare(stage)
        async with following(broker.address, prefix) as faithful:
            await until(lambda: len(faithful.states) == ACCOUNTS)
            before = committed(stage)
            for turn in range(FORGETFUL_TURNS):
                closing = turn % 2 == 0
                if comes_back == "old" and turn + 2 in FORGETFUL_DIES:
                    memory.remember()
                if turn in FORGETFUL_DIES:
                    await broker.kill()
                    memory.forget()
                await (stage.control.disable_key if closing else stage.control.enable_key)(VAULT, "media")
                if turn in DIES_BETWEEN:
                    await stage.service.kill()
                    await stage.service.start()
                await all_in(stage, "Inaccessible" if closing else "Accessible")
                if turn in FORGETFUL_DIES:
                    known = faithful.connections
                    await broker.start()
                    await until(lambda known=known: faithful.connections > known)  # type: ignore[misc]
            last = committed(stage)
            assert sum(last[name][0] - before[name][0] for name in last) == ACCOUNTS * FORGETFUL_TURNS

            await faithful.until(last)
            heard_until_then = {name: list(heard) for name, heard in faithful.sequences.items()}
            # Once more, when nothing waits: what the broker forgets now comes from nowhere but what was sent before.
            await broker.kill()
            memory.forget()
            await broker.start()
            async with following(broker.address, prefix, name="newcomer") as newcomer:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while newcomer.states != last:  # noqa: ASYNC110 - messages come
                        await asyncio.sleep(0.05)
        for name, (sequence, _) in last.items():
            # As docs/events.md has it: what is no higher is dropped, also what comes again from before we were there.
            heard = [number for number, most in with_highest(heard_until_then[name]) if number == most]
            assert gaps(heard, last=sequence) <= (len(FORGETFUL_DIES) if comes_back == "empty" else 0), f"{name}: a gap"
    # And once more at the end.
    assert (len(FORGETFUL_DIES), len(DIES_BETWEEN)) == ((8, 4) if AS_MANY else (2, 1))
