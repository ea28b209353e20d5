"""The ways by which the parts of the runtime reach vaults."""

from byokd.ports import KeyService
from byokd.runtime.doubts import DoubtingKeys, Doubts
from byokd.runtime.outside import Outside
from byokd.runtime.own_faults import HeardKeys, OwnFaults
from byokd.runtime.rationing import Priority, Rations


class VaultWays:
    """Gives each part its way: whatever it is for, every answer is heard by `OwnFaults`, and every call is rationed.

    A denial that somebody meets who uses a key is a doubt; checks, and trials of keys that are not in use, weigh theirs
    themselves.
    """

    def __init__(self, outside: Outside, own_faults: OwnFaults, rations: Rations, doubts: Doubts) -> None:
        """Take the ways out, and who hears and bounds what goes over them."""
        self._outside = outside
        self._own_faults = own_faults
        self._rations = rations
        self._doubts = doubts

    def for_checks(self) -> KeyService:
        """Give the way of routine looks."""
        return self._rationed(self._outside.probe_keys, Priority.CHECK)

    def for_confirmations(self) -> KeyService:
        """Give the way of looks that confirm a denial, each on a new connection."""
        return self._rationed(self._outside.fresh_keys, Priority.CONFIRMATION)

    def for_trials(self) -> KeyService:
        """Give the way to keys of which nothing is known yet."""
        return self._rationed(self._outside.keys, Priority.USE)

    def for_work(self, priority: Priority) -> KeyService:
        """Give the way of everything that changes something or uses a key."""
        return DoubtingKeys(self._rationed(self._outside.keys, priority), self._doubts)

    def for_second_attempts(self) -> KeyService:
        """Give the way of who could not open an account key, each call on a new connection."""
        return DoubtingKeys(self._rationed(self._outside.fresh_keys, Priority.USE), self._doubts)

    def _rationed(self, keys: KeyService, priority: Priority) -> KeyService:
        return self._rations.of(HeardKeys(keys, self._own_faults), priority)
