"""Proves that everything stored under the service's keys opens, or tells what does not, and why.

Changes nothing that is stored, but that a running daemon notes which accounts are damaged, and which are not any more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Final

from byokd.domain.answers import OWN_LIMIT, NoAnswer, Refused
from byokd.domain.identifiers import AccountId, VaultHost
from byokd.domain.payload import Payload, PayloadInvalidError
from byokd.domain.refusals import explain
from byokd.domain.vocabulary import RefusalKind
from byokd.ports import Clock, KeyService, KeyTarget, SealBrokenError, SealedStore, ServiceKeyMissingError
from byokd.records import SealedValue, StoredKey, WrappedKey
from byokd.runtime.damages import Damages
from byokd.runtime.layers import Layers
from byokd.runtime.rounds import Round

PAGE: Final = 200
"""Records held at once."""

TRIES: Final = 3
"""How often a vault is asked that gives no answer: throttling passes."""

WAIT: Final = timedelta(seconds=2)
"""Between two tries."""

SILENCE: Final = timedelta(minutes=1)
"""How long a vault that gave no answer at all is left alone: each try would cost a deadline."""


class Proof(StrEnum):
    """How far something was proved."""

    OPENS = "opens"
    TO_THE_VAULT = "opens-up-to-the-vault"
    UNPROVED = "cannot-be-proved-now"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one stored thing.

    Attributes:
        account: whose it is, an ARM id.
        what: which thing of the account.
        proof: how far it was proved.
        reason: a word for why not further: a vault's reason, `ServiceKeyMissing`, `Damaged`; empty when it opens.
        message: the same in a sentence; it holds no key material.
    """

    account: str
    what: str
    proof: Proof
    reason: str = ""
    message: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether an operator has to look at it."""
        return self.proof in {Proof.UNPROVED, Proof.DAMAGED}


class _NotAsked(Enum):
    """Why a vault was not asked."""

    NO_VAULTS = "none is to be asked"
    SILENT = "it gave no answer a moment ago"


@dataclass(slots=True)
class _Run:
    """What one verification remembers: which vaults gave no answer, and until when they are left alone."""

    silent: dict[VaultHost, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class _Opened:
    """A wrapped key, what was found of it, and the account key where it opened: held while a page is verified."""

    stored: StoredKey
    finding: Finding
    account_key: bytes | None


class Verifier:
    """Walks through the store page by page; memory does not grow with the number of accounts."""

    def __init__(
        self,
        store: SealedStore,
        layers: Layers,
        keys: KeyService | None,
        *,
        clock: Clock,
        deadline: timedelta,
        concurrency: int,
        damages: Damages | None = None,
    ) -> None:
        """Take the collaborators.

        Args:
            store: what is verified.
            layers: takes our own layers off.
            keys: the customers' vaults; None leaves their layer unproved.
            clock: for deadlines and waits.
            deadline: for one unwrap.
            concurrency: records in work at once, however many verifications run.
            damages: told of present keys that do not open, and of those of damaged accounts that do; None: of none.
        """
        self._store = store
        self._layers = layers
        self._keys = keys
        self._clock = clock
        self._deadline = deadline
        self._places = asyncio.Semaphore(concurrency)
        self._damages = damages

    async def findings(self) -> AsyncIterator[Sequence[Finding]]:
        """Give findings page by page, for every account key, current or superseded, and every protected value.

        Raises:
            StoreUnavailableError: the store cannot be read; what was given until then holds.
        """
        run = _Run()
        after: WrappedKey | None = None
        while page := await self._store.stored_keys(after=after, limit=PAGE):
            after = page[-1].wrapped
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._of(stored, run), name="verify") for stored in page]
            opened = [found for task in tasks if (found := task.result()) is not None]
            await self._note(opened)
            yield [found.finding for found in opened]
            current = {found.stored.wrapped.account: found for found in opened if not found.stored.superseded}
            async for findings in self._values(current, run):
                yield findings
        async for missing in self._missing():
            yield missing

    async def _note(self, opened: Sequence[_Opened]) -> None:
        """Have noted what is news of the accounts' present keys; one by one, as each may ask a vault."""
        for found in opened:
            stored, proof = found.stored, found.finding.proof
            if self._damages is None or stored.superseded:
                continue
            if proof is Proof.DAMAGED and not stored.damaged:
                await self._damages.look_into(stored.wrapped)
            elif proof is Proof.OPENS and stored.damaged:
                await self._damages.opened(stored.wrapped)

    async def _missing(self) -> AsyncIterator[Sequence[Finding]]:
        """Name the accounts whose key is not even there: no page of stored keys shows them."""
        after: AccountId | None = None
        while page := await self._store.accounts_without_key(after=after, limit=PAGE):
            after = page[-1]
            if self._damages is not None:
                for account in page:
                    await self._damages.missing(account)
            message = "its record is not there"
            yield [Finding(str(account), "account key", Proof.DAMAGED, "Damaged", message) for account in page]

    async def _of(self, stored: StoredKey, run: _Run) -> _Opened | None:
        """Verify a wrapped key; None when it is gone."""
        async with self._places:
            finding, account_key = await self._key(stored, run)
            if finding.is_bad:
                # It may have been replaced between reading and opening: then that was no finding.
                again = await self._reread(stored.wrapped)
                if again is None:
                    return None
                if again != stored:
                    stored, (finding, account_key) = again, await self._key(again, run)
        return _Opened(stored, finding, account_key)

    async def _reread(self, wrapped: WrappedKey) -> StoredKey | None:
        before = WrappedKey(wrapped.account, wrapped.generation - 1, None, wrapped.sealed)
        found = await self._store.stored_keys(after=before, limit=1)
        same = found and (found[0].wrapped.account, found[0].wrapped.generation) == (
            wrapped.account,
            wrapped.generation,
        )
        return found[0] if same else None

    async def _key(self, stored: StoredKey, run: _Run) -> tuple[Finding, bytes | None]:
        """Give the finding and, where it opened, the account key."""
        wrapped, former = stored.wrapped, "superseded " if stored.superseded else ""
        account, what = str(wrapped.account), f"{former}account key, generation {wrapped.generation}"
        try:
            opened = await self._open(stored, run)
        except ServiceKeyMissingError as error:
            return Finding(account, what, Proof.UNPROVED, "ServiceKeyMissing", str(error)), None
        except (SealBrokenError, PayloadInvalidError) as error:
            return Finding(account, what, Proof.DAMAGED, "Damaged", str(error)), None
        if isinstance(opened, Payload):
            return Finding(account, what, Proof.OPENS), opened.account_key
        return _of_answer(account, what, opened), None

    async def _open(self, stored: StoredKey, run: _Run) -> Payload | Refused | NoAnswer | _NotAsked:
        wrapped = stored.wrapped
        wrap = self._layers.uncover(wrapped)
        if wrapped.key_identifier is None:
            return self._layers.unwrap(wrapped, wrap)
        if stored.identity is None:
            raise SealBrokenError("its record names a customer key, but nothing that watches it")
        target = KeyTarget(stored.identity, stored.tenant, wrapped.key_identifier)
        answer = await self._unwrap(target, wrap.inner, run)
        return self._layers.read(wrapped, wrap, answer) if isinstance(answer, bytes) else answer

    async def _unwrap(self, target: KeyTarget, inner: bytes, run: _Run) -> bytes | Refused | NoAnswer | _NotAsked:
        if self._keys is None:
            return _NotAsked.NO_VAULTS
        if run.silent.get(target.key.host, 0.0) > self._clock.monotonic():
            return _NotAsked.SILENT
        answer = await self._ask(self._keys, target, inner)
        for attempt in range(1, TRIES):
            if not isinstance(answer, NoAnswer):
                return answer
            await self._clock.sleep(WAIT.total_seconds() * attempt)
            answer = await self._ask(self._keys, target, inner)
        if isinstance(answer, NoAnswer) and answer.evidence.code != OWN_LIMIT:
            run.silent[target.key.host] = self._clock.monotonic() + SILENCE.total_seconds()
        return answer

    async def _ask(self, keys: KeyService, target: KeyTarget, inner: bytes) -> bytes | Refused | NoAnswer:
        return await Round(keys, self._clock, deadline=self._deadline).unwrap(target, inner)

    async def _values(self, current: Mapping[AccountId, _Opened], run: _Run) -> AsyncIterator[list[Finding]]:
        """Verify the protected values of a page's accounts, page by page."""
        after: SealedValue | None = None
        while current and (page := await self._store.values_among(list(current), after=after, limit=PAGE)):
            findings = [await self._proved(value, current[value.account], run) for value in page]
            yield [finding for finding in findings if finding is not None]
            after = page[-1]

    async def _proved(self, value: SealedValue, of: _Opened, run: _Run) -> Finding | None:
        """Verify a value; None when it is gone meanwhile. A bad one is read again: it may be of another life."""
        finding = self._value(value, of.finding, of.account_key)
        if not finding.is_bad:
            return finding
        now = await self._reread_value(value)
        stored = await self._reread(of.stored.wrapped)
        if now is None or (now == value and stored in {None, of.stored}):
            return None if now is None else finding
        key = (None if stored is None else await self._of(stored, run)) or of
        return self._value(now, key.finding, key.account_key)

    async def _reread_value(self, value: SealedValue) -> SealedValue | None:
        after: SealedValue | None = None
        while page := await self._store.values_of(value.account, after=after, limit=PAGE):
            for found in page:
                if (found.kind, found.name) == (value.kind, value.name):
                    return found
            after = page[-1]
        return None

    def _value(self, value: SealedValue, of_key: Finding, account_key: bytes | None) -> Finding:
        account, what = str(value.account), f"protected value {value.kind}/{value.name}"
        try:
            if account_key is not None:
                self._layers.prove_value(value, account_key)
                return Finding(account, what, Proof.OPENS)
            self._layers.uncover_value(value)
        except ServiceKeyMissingError as error:
            return Finding(account, what, Proof.UNPROVED, "ServiceKeyMissing", str(error))
        except SealBrokenError as error:
            return Finding(account, what, Proof.DAMAGED, "Damaged", str(error))
        if of_key.proof is Proof.TO_THE_VAULT:
            return Finding(account, what, Proof.TO_THE_VAULT)
        return Finding(account, what, Proof.UNPROVED, "AccountKey", "the account key did not open")


def _of_answer(account: str, what: str, answer: Refused | NoAnswer | _NotAsked) -> Finding:
    if answer is _NotAsked.NO_VAULTS:
        return Finding(account, what, Proof.TO_THE_VAULT)
    if answer is _NotAsked.SILENT:
        return Finding(account, what, Proof.UNPROVED, "NotTried", "not tried: the vault did not answer a moment ago")
    if isinstance(answer, Refused) and answer.kind is RefusalKind.BAD_REQUEST:
        message = "the vault cannot unwrap it: it is not what this version of the key wrapped"
        return Finding(account, what, Proof.DAMAGED, "Damaged", message)
    reason = answer.kind if isinstance(answer, Refused) else answer.reason
    return Finding(account, what, Proof.UNPROVED, str(reason), explain(answer).message)


def counted_by_proof(findings: Sequence[Finding]) -> Counter[Proof]:
    """Count how far things were proved."""
    return Counter(finding.proof for finding in findings)
