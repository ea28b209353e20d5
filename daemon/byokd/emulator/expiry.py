"""Which keys expire soon, or did: looked at by the clock of the world."""

from collections.abc import Iterator
from typing import Final

from byokd.emulator.vaults import DAY_SECONDS, Key, KeyVersion, Vault
from byokd.emulator.vocabulary import EventType

NEAR_SECONDS: Final = 30 * DAY_SECONDS
"""How long before its end a key nears expiry (documentation)."""


class ExpiryWatch:
    """Remembers keys whose newest version expires, and what was said of each."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], tuple[Vault, Key]] = {}
        self._said: dict[tuple[str, str], tuple[str, int, EventType]] = {}

    def note(self, vault: Vault, key: Key) -> None:
        """A key was made, or its attributes changed."""
        place = (vault.name, key.name.lower())
        if key.newest.exp is None:
            self._keys.pop(place, None)
            self._said.pop(place, None)
        else:
            self._keys[place] = (vault, key)

    def look(self, now: float) -> Iterator[tuple[EventType, Vault, Key, KeyVersion]]:
        """What is to be said at `now`: once of a version and its time, and nothing of what is deleted."""
        for place, (vault, key) in list(self._keys.items()):
            version = key.newest
            if vault.keys.get(place[1]) is not key:
                if vault.deleted_keys.get(place[1]) is not key:
                    del self._keys[place]
                continue
            if vault.deleted is not None or version.exp is None or version.exp - NEAR_SECONDS > now:
                continue
            kind = EventType.KEY_EXPIRED if version.exp <= now else EventType.KEY_NEAR_EXPIRY
            if self._said.get(place) != (version.id, version.exp, kind):
                self._said[place] = (version.id, version.exp, kind)
                yield kind, vault, key, version
