"""The steps in which the broker is stopped and the daemon is killed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from byokd.demo.scene import CUSTOMERS, EVERYONE, KEY, PATIENCE, VAULT, Scene, Seen, Step, after
from byokd.demo.watcher import Heard, Watcher, retained
from byokd.emulator.vocabulary import FaultKind

SLOW_SECONDS = 1.5
"""How long every second wrap takes when the daemon is to be killed between two: below the deadline of a check, whose
proof of the new version is the first of them, and long against what it takes to hear of the one and kill."""

_REWRAPPED = "byokd.accountkey.rewrapped"
_INACCESSIBLE = "byokd.account.inaccessible"
_OF_THE_BROKER = ("broker-down", "broker-back", "enable-key-again")


class Outages:
    """What the accounts and the bus must come through."""

    def __init__(self, scene: Scene) -> None:
        """Take the scene."""
        self._scene = scene
        self._mark = 0

    @property
    def left_out(self) -> Mapping[str, str]:
        """Steps that cannot be played here, and why."""
        if self._scene.stage.own_broker is not None:
            return {}
        return dict.fromkeys(_OF_THE_BROKER, "the broker is not the demo's own, so it is not stopped")

    def of_the_broker(self) -> Sequence[Step]:
        """Give the steps that stop the broker; none where it is somebody else's."""
        if self.left_out:
            return ()
        down, back, enable = _OF_THE_BROKER
        return (
            Step(
                down,
                "the broker is stopped, and the customer disables the key",
                "the daemon has the customer's three accounts Inaccessible, though nobody hears it",
                self._broker_down,
            ),
            Step(
                back,
                "the broker is started again, empty",
                "the three changes are heard, and all four states are retained again",
                self._broker_back,
            ),
            self._scene.returning(enable, "the customer enables the key", self._scene.enable_key),
        )

    def of_the_daemon(self) -> Sequence[Step]:
        """Give the steps that kill the daemon."""
        return (
            Step(
                "kill-9",
                "the customer makes a new version; between two rewraps the daemon is killed, and started again",
                "one account was rewrapped before, the other is afterwards, and no event is missing",
                self._kill,
            ),
        )

    async def _broker_down(self) -> Seen:
        broker, watcher = self._scene.stage.own_broker, self._scene.watcher
        if broker is None:
            raise AssertionError("only the demo's own broker is stopped")
        await broker.stop()
        await watcher.disconnected()
        self._mark = watcher.mark()
        await self._scene.disable_key()
        took = await watcher.until_true(self._is_committed, seconds=PATIENCE)
        heard = watcher.mark() - self._mark
        states = await self._states()
        closed = sum(state == "Inaccessible" for state in states.values())
        return Seen(f"{closed} accounts Inaccessible{after(took)}, {heard} messages", ok=took is not None and not heard)

    async def _broker_back(self) -> Seen:
        stage, watcher = self._scene.stage, self._scene.watcher
        if stage.own_broker is None:
            raise AssertionError("only the demo's own broker is started")
        # Nobody could hear what is sent before they listen: the daemon, which would be quicker at times, has to wait.
        with stage.service.held():
            await stage.own_broker.start()
            await watcher.connected()

        def told() -> bool:
            events = watcher.events(since=self._mark, event_type=_INACCESSIBLE)
            return {_name(event) for event in events} == set(CUSTOMERS)

        took = await watcher.until(told, seconds=PATIENCE)
        newcomer = await retained(stage.broker, watcher.prefix, enough=_has_everyone, seconds=PATIENCE)
        states = {name: newcomer.state(name).get("state") for name in EVERYONE if newcomer.state(name)}
        heard = len({_name(event) for event in watcher.events(since=self._mark, event_type=_INACCESSIBLE)})
        ok = took is not None and states == await self._states() and self._scene.gaps() == 0
        words = f"{heard} changes heard{after(took)}; {len(states)} states retained, {self._scene.gaps()} gaps"
        return Seen(words, ok)

    async def _kill(self) -> Seen:
        stage, watcher, control = self._scene.stage, self._scene.watcher, self._scene.control
        mark = watcher.mark()
        await control.set_fault(VAULT, FaultKind.LATENCY, operations=["wrapKey"], share=0.5, seconds=SLOW_SECONDS)
        newest = (await control.rotate_key(VAULT, KEY))["newest"]

        def rewrapped() -> list[Heard]:
            return _once(watcher.events(since=mark, event_type=_REWRAPPED))

        took = await watcher.until(lambda: bool(rewrapped()), seconds=PATIENCE)
        await stage.service.kill()
        killed = datetime.now(UTC)
        await control.clear_faults(target=VAULT)
        await stage.service.start()
        again = await watcher.until(lambda: self._is_moved(newest), seconds=PATIENCE)
        times = sorted(datetime.fromisoformat(str((event.event or {})["time"])) for event in rewrapped())
        before = sum(time < killed for time in times)
        gaps = self._scene.gaps()
        words = (
            f"{before} rewrapped{after(took)}, killed, {len(times) - before} rewrapped after the restart; {gaps} gaps"
        )
        well = self._scene.all_in("Accessible", EVERYONE)
        return Seen(words, ok=again is not None and (before, len(times)) == (1, 2) and not gaps and well)

    def _is_moved(self, version: str) -> bool:
        return all(self._scene.current(name).endswith(version) for name in CUSTOMERS[:2])

    async def _is_committed(self) -> bool:
        states = await self._states()
        return {name for name, state in states.items() if state == "Inaccessible"} == set(CUSTOMERS)

    async def _states(self) -> dict[str, str]:
        """Give the states as the daemon has them."""
        return {account["name"]: account["state"] for account in await self._scene.stage.service.ask("/accounts") or ()}


def _has_everyone(watcher: Watcher) -> bool:
    return all(watcher.state(name) for name in EVERYONE)


def _name(event: Heard) -> str:
    return event.topic.split("/")[-2]


def _once(events: Sequence[Heard]) -> list[Heard]:
    """Drop repetitions: after a kill, what was acknowledged and not yet marked is sent again."""
    return list({event.id: event for event in events}.values())
