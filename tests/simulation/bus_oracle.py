"""Every committed event reaches the bus, in order and without gaps, and the bus never tells what is not committed."""

import json

from byokd.adapters.sql.audit import Audit
from byokd.ports import BusMessage
from simulation.rows import Rows
from simulation.trace import ViolatedError
from simulation.world import SimWorld
from virtual.world import PREFIX

GAPS = "4 sequences have no gaps"
ORDER = "4 the bus tells in order"
COMMITTED = "4 the bus tells only what is committed"
REACHES = "4 every committed event reaches the bus"
RETAINED = "4 retained states equal committed ones"
SIGNED = "8 the signed history verifies"
FLAPPING = "7 events are bounded"


class BusOracle:
    """Knows the events as committed, and what of them the bus has shown."""

    def __init__(self, world: SimWorld, rows: Rows) -> None:
        self._world = world
        self._rows = rows
        self._last = 0
        self._next: dict[str, int] = {}
        self._streams: dict[str, list[int]] = {}
        self._numbers: dict[str, tuple[int, str]] = {}
        self._at: dict[int, float] = {}
        self._again_at = 0.0
        self._shown: dict[str, int] = {}
        self._seen: dict[str, None] = {}
        self.committed_at: dict[str, list[tuple[float, str]]] = {}

    def on_commit(self) -> None:
        query = "SELECT number, id, stream, type, incarnation, sequence, data FROM events WHERE number > ?"
        for number, id_, stream, type_, incarnation, sequence, data in self._world.raw.execute(query, (self._last,)):
            self._last = number
            self._numbers[id_] = (number, stream)
            self._at[number] = self._world.now
            self._streams.setdefault(stream, []).append(number)
            self._world.trace.note(f"event {number} {stream.rpartition('/')[2]} {type_} {sequence}")
            self._world.trace.count(f"event: {type_.removeprefix('byokd.')}")
            if incarnation is not None:
                self._check_sequence(incarnation, sequence, stream)
                self.committed_at.setdefault(stream, []).append((self._world.now, type_))
            if type_ == "byokd.key.version-retired":
                self.on_retired(json.loads(data)["keyIdentifier"])

    def _check_sequence(self, incarnation: str, sequence: int, stream: str) -> None:
        wanted = self._next.get(incarnation, 0) + 1
        if sequence != wanted:
            raise ViolatedError(GAPS, f"{stream}: event {sequence} follows {wanted - 1} in {incarnation}")
        self._next[incarnation] = sequence

    def on_retired(self, identifier: str) -> None:
        if any(row.identifier == identifier for row in self._rows.keys):
            raise ViolatedError("9 retired versions are unused", f"{identifier} still wraps")

    def on_message(self, message: BusMessage) -> None:
        if not message.topic.endswith("/events"):
            return
        event = json.loads(message.payload)
        known = self._numbers.get(event["id"])
        self._world.bus.memory.kept[event["id"]] = None
        if known is None:
            raise ViolatedError(COMMITTED, f"{event['type']} {event['id']} on {message.topic}")
        number, stream = known
        shown = self._shown.get(stream, 0)
        if event["id"] in self._seen:
            self._world.trace.count("event sent again")
            self._again_at = self._world.now
        elif number < shown:
            raise ViolatedError(ORDER, f"{stream}: event {number} came after {shown}")
        else:
            self._seen[event["id"]] = None
            between = [one for one in self._streams[stream] if shown < one < number]
            if between:
                raise ViolatedError(ORDER, f"{stream}: event {number} came before {between}")
        self._shown[stream] = max(shown, number)

    def has_all(self) -> bool:
        """Whether the bus has shown all that is committed."""
        return len(self._seen) == len(self._numbers)

    def check_at_end(self) -> None:
        kept = self._world.bus.memory.kept
        missing = [f"{number} {stream}" for id_, (number, stream) in self._numbers.items() if id_ not in self._seen]
        if missing:
            raise ViolatedError(REACHES, f"never came: {missing[:5]}")
        forgotten = [
            number
            for id_, (number, _) in self._numbers.items()
            if id_ not in kept and number > self.excused and not self._was_old(number)
        ]
        if forgotten:
            raise ViolatedError(REACHES, f"not sent again to the broker that lost them: {forgotten[:5]}")
        self._check_retained()
        audit = Audit(self._world.sql._runner.writer, self._world.auditor)
        if (defect := next(audit.defects(), None)) is not None:
            raise ViolatedError(SIGNED, str(defect))

    excused = 0
    """The last event that a broker may have lost for good: it came back without the marker."""

    def _was_old(self, number: int) -> bool:
        """Whether an event was too old to be sent again when byokd last did: of those only each account's last is."""
        stepped = sum(abs(seconds) for _, seconds in self._world.steps)
        oldest = self._again_at - self._world.settings.mqtt.outbox_retention.total_seconds() + stepped
        return self._at[number] < oldest

    def excuse(self) -> None:
        self.excused = self._last

    def _check_retained(self) -> None:
        wrong = self.retained_wrong()
        if wrong is not None:
            raise ViolatedError(RETAINED, wrong)

    def retained_wrong(self) -> str | None:
        """What the bus retains otherwise than it is committed."""
        retained = self._world.bus.memory.retained
        topics = {f"{PREFIX}/{account.topic}/state": row for account, row in self._rows.accounts.items()}
        shown = {topic for topic in retained if "/accounts/" in topic}
        if shown != topics.keys():
            return f"retained are {sorted(shown)}, there should be {sorted(topics)}"
        for topic, row in topics.items():
            data = json.loads(retained[topic])["data"]
            told = (data["incarnation"], data["sequence"], data["state"], data["reason"])
            if told != (row.incarnation, row.sequence, row.state, row.reason):
                return f"{topic} tells {told}, committed is {row}"
        return None
