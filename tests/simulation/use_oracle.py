"""No use after revocation: a value is shown only on an unwrap that is young and that no denial followed."""

import asyncio
import hashlib
from collections import defaultdict

from byokd.domain.identifiers import AccountId
from byokd.domain.values import ValueName, ValueRef
from byokd.domain.vocabulary import ValueKind
from byokd.ports import StoreUnavailableError
from byokd.runtime.unusable import InaccessibleError, RecordDamagedError, UnusableError
from simulation.rows import Rows
from simulation.trace import ViolatedError
from simulation.world import SimWorld

USE = "5 no use after revocation"
VALUES = "1 protected values decrypt"
REF = ValueRef(ValueKind.CONTENT_KEY, ValueName("video"))


class UseOracle:
    """Protects and reveals, and knows what must come of it."""

    def __init__(self, world: SimWorld, rows: Rows) -> None:
        self._world = world
        self._rows = rows
        self.contents: defaultdict[str, set[bytes]] = defaultdict(set)

    def _incarnation(self, account: AccountId) -> str | None:
        row = self._rows.accounts.get(account)
        return None if row is None else row.incarnation

    async def protect(self, account: AccountId, content: bytes) -> None:
        incarnation = self._incarnation(account)
        if incarnation is None:
            return
        possible = self.contents[incarnation]
        possible.add(content)
        before = possible - {content}
        try:
            await self._world.service.values.protect(account, REF, content)
        except UnusableError as error:
            self._world.trace.count(f"protect: {type(error).__name__}")
            possible.discard(content)
            self._judge(error)
        except (StoreUnavailableError, RuntimeError):
            self._world.trace.count("protect: outcome unknown")
        else:
            if incarnation == self._incarnation(account):
                possible -= before
                self._world.trace.count("protected")

    async def reveal(self, account: AccountId) -> None:
        incarnation = self._incarnation(account)
        if incarnation is None or not self.contents[incarnation]:
            return
        try:
            content, _ = await self._world.service.values.reveal(account, REF)
        except UnusableError as error:
            self._world.trace.count(f"reveal: {type(error).__name__}")
            self._judge(error)
        except (StoreUnavailableError, RuntimeError):
            self._world.trace.count("reveal: trouble of our own")
        else:
            self._world.trace.note(f"revealed {account.name}")
            self._world.trace.count("revealed")
            if incarnation == self._incarnation(account):
                if content not in self.contents[incarnation]:
                    raise ViolatedError(VALUES, f"{account.name} reveals something else than was protected")
                self._check_allowed(account)

    def _judge(self, error: UnusableError) -> None:
        if isinstance(error, RecordDamagedError) and not self._world.lies:
            raise ViolatedError(VALUES, str(error))
        if isinstance(error, InaccessibleError):
            self._world.trace.count("use refused")

    def _check_allowed(self, account: AccountId) -> None:
        row = self._rows.accounts[account]
        if row.version is None:
            return
        version = self._rows.versions[row.version]
        if version.outcome == "Denied":
            raise ViolatedError(USE, f"{account.name} was revealed after its denial was committed: {version.reason}")
        now = asyncio.get_running_loop().time()
        digest = hashlib.sha256(str(account).encode()).hexdigest()
        age = self._world.settings.values.max_plaintext_age.total_seconds()
        denial = self._world.vaults.refused.get(version.target)
        denied = -1.0 if denial is None or denial.life != self._world.life.number else denial.ended
        unwraps = [
            look
            for look in self._world.vaults.uses[digest][-50:]
            if look.outcome == "ok" and look.life == self._world.life.number and look.began >= now - age - 1e-3
        ]
        if not unwraps:
            raise ViolatedError(USE, f"{account.name} was revealed without a young unwrap")
        # What the vault answers at this very moment may not have been heard yet.
        if denied < now - 1e-6 and not any(look.began > denied - 1e-6 for look in unwraps):
            raise ViolatedError(USE, f"{account.name} was revealed on an unwrap of before the denial of {denied:.3f}")
