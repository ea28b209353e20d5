"""What the parts of the store have in common."""

from byokd.adapters.sql.chain import Recorder
from byokd.adapters.sql.runners import Runner


class StorePart:
    """A subject of the store: it hands each transaction to the runner, and the recorder to those that write events."""

    def __init__(self, runner: Runner, recorder: Recorder) -> None:
        self._runner = runner
        self._recorder = recorder
