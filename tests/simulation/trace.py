"""What happened, line by line, as a digest: two runs of one seed are the same if and only if their digests are."""

import asyncio
import hashlib
from collections import Counter, deque

LAST = 400


class Trace:
    """Every line counts for the digest; the last ones are kept to be shown."""

    def __init__(self, *, whole: bool = False) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.lines: deque[str] = deque(maxlen=None if whole else LAST)
        self.reached: Counter[str] = Counter()

    def note(self, what: str) -> None:
        """Add a line, with the virtual time."""
        line = f"{asyncio.get_running_loop().time():.6f} {what}"
        self._digest.update(line.encode())
        self._digest.update(b"\n")
        self.lines.append(line)

    def count(self, kind: str, number: int = 1) -> None:
        """Count something that the report tells of."""
        if number:
            self.reached[kind] += number

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


class ViolatedError(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what
