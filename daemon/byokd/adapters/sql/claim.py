"""One process at a time uses a database file, and it must stay the file that it was."""

import fcntl
import os
from pathlib import Path

from byokd.ports import StoreUnavailableError


class Claim:
    """The exclusive use of a database file: a lock on `<database>.lock` that ends with the process at the latest.

    SQLite's own locks let several processes write in turn; two daemons would each believe their own view of the keys.
    The lock file stays when the claim ends: whoever removed it could cut off a process that has just opened it.
    """

    def __init__(self, database: Path) -> None:
        """Take the path of the database; nothing is claimed yet."""
        self._database = database
        # By whatever links the database is reached, it is one.
        self._lock_path = f"{os.path.realpath(database)}.lock"
        self._lock: int | None = None
        self._file: tuple[int, int] | None = None

    def take(self) -> None:
        """Claim the database file, which must exist, and remember which file it is.

        Raises:
            StoreUnavailableError: another process (or another claim of this one) has it.
        """
        if self._lock is not None:
            return
        lock = self._opened()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = self._present_file()
        except BlockingIOError as error:
            os.close(lock)
            raise StoreUnavailableError(
                f"another process uses the database {self._database}",
                hint="one daemon per database: stop the other one, or change store.url",
            ) from error
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def _opened(self) -> int:
        try:
            return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailableError(
                f"the lock file {self._lock_path} cannot be opened: {error.strerror}",
                hint="let the service's user read and write the file and its directory",
            ) from error

    def release(self) -> None:
        """End the claim, if there is one."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def confirm(self) -> None:
        """See that the path still leads to the file that was claimed.

        Raises:
            StoreUnavailableError: the file was deleted, moved or replaced; what is written goes to a file without name.
        """
        if self._present_file() != self._file:
            raise StoreUnavailableError(
                f"the database file {self._database} was deleted or replaced while it was in use",
                hint="stop the daemon, restore the file from a backup and start again; "
                "nothing written since the file went survives",
            )

    def _present_file(self) -> tuple[int, int] | None:
        try:
            found = self._database.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
