"""What must hold, judged by what the world knows: the vaults' own log, the rows as stored, the bus as seen."""

from byokd.ports import BusMessage
from simulation.bus_oracle import BusOracle
from simulation.key_oracle import KeyOracle
from simulation.prompt_oracle import PromptOracle
from simulation.rows import Rows
from simulation.trace import ViolatedError
from simulation.use_oracle import UseOracle
from simulation.verdict_oracle import VerdictOracle
from simulation.world import SimWorld


class Oracle:
    """Listens to every commit and every message of a world."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        rows = Rows(world)
        self.rows = rows
        self.keys = KeyOracle(world, rows)
        self.verdicts = VerdictOracle(world, rows)
        self.bus = BusOracle(world, rows)
        self.uses = UseOracle(world, rows)
        self.prompt = PromptOracle(world, rows)
        world.store.on_commit = self._on_commit
        world.store.on_loss = lambda _: self.verdicts.lost()
        world.vaults.on_defect = self.verdicts.lost
        world.bus.on_message = self._on_message

    def _on_commit(self, name: str) -> None:
        # Raised where the daemon commits, it would be taken for trouble of the daemon's.
        try:
            if name != "mark_published":
                self.rows.read()
                self.bus.on_commit()
                self.verdicts.on_commit()
                self.keys.on_commit()
        except ViolatedError as violation:
            self._world.fail(violation)

    def _on_message(self, message: BusMessage) -> None:
        try:
            self.bus.on_message(message)
        except ViolatedError as violation:
            self._world.fail(violation)
