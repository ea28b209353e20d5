"""What the store's tests are made of: a calendar, ids in order, specs, placements and decisions."""

from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable, select

from byokd.adapters.sealing.auditor import HmacAuditor
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sql import SqlStore
from byokd.adapters.sql.tables import events, metadata
from byokd.demo.stage import make_service_keys
from byokd.domain.accounts import Account, AccountSpec, CustomerKey
from byokd.domain.answers import Evidence, KeyFacts
from byokd.domain.decide import Adoption, Decision, KeyEvent
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.domain.verdict import Probe, Suspicion, Unverified, Verdict, Watch
from byokd.domain.vocabulary import DetectedBy, EventType, Outcome, Reason
from byokd.ports import KeyTarget, StaleError
from byokd.records import KeyPlacement, NewVersion, Rewrapped, RewrapWork, SealedKey

T = TypeVar("T")

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
TENANT = TenantId("11111111-2222-3333-4444-555555555555")
IDENTITY = IdentityName("platform")
KEY = KeyIdentifier(VaultHost("contoso.vault.azure.net"), "Media-Key")


@cache
def auditor() -> HmacAuditor:
    """The real one, over keys of this process that nobody can have again."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        make_service_keys(directory / "keys")
        return HmacAuditor(FileServiceKeys(directory / "keys"))


class CountingIds:
    """Ids that can be told apart at a glance."""

    def __init__(self) -> None:
        self.given = 0

    def new(self) -> str:
        self.given += 1
        return f"00000000-0000-0000-0000-{self.given:012d}"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def version(number: int) -> KeyVersion:
    return KeyVersion(f"{number:032x}")


def account_id(number: int = 1) -> AccountId:
    return AccountId("00000000-0000-0000-0000-000000000001", "media-group", f"account{number:05d}")


def spec(number: int = 1, *, key: KeyIdentifier | None = KEY, location: str = "westeurope") -> AccountSpec:
    customer_key = None if key is None else CustomerKey(IDENTITY, key)
    return AccountSpec(account_id(number), TENANT, location, customer_key)


def target(key: KeyIdentifier = KEY) -> KeyTarget:
    return KeyTarget(IDENTITY, TENANT, key)


def facts(number: int = 1) -> KeyFacts:
    return KeyFacts(version(number), "RSA", 2048, enabled=True, operations=frozenset({"wrapKey", "unwrapKey"}))


def probe(number: int = 1) -> Probe:
    return Probe(b"wrapped probe %d" % number, b"digest %d" % number)


def sealed(data: bytes, *, storage_key: str = "1", system_key: str | None = None) -> SealedKey:
    return SealedKey(data, storage_key, system_key)


def placement(
    number: int = 1, *, key: KeyIdentifier | None = KEY, first: bool = True, wrap: bytes = b"sealed wrap 1"
) -> KeyPlacement:
    if key is None:
        return KeyPlacement(None, sealed(wrap, system_key="1"), None)
    return KeyPlacement(
        key.at(version(number)), sealed(wrap), NewVersion(facts(number), probe(number)) if first else None
    )


def decision(watch: Watch, *, due: datetime | None = None, **changes: object) -> Decision:
    """A decision that changes the current version's verdict as told, with a number of its own."""
    current = watch.current_version
    verdicts = {}
    if changes:
        numbered: dict[str, Any] = {"number": current.verdict.number + 1, **changes}
        verdicts[current.id] = replace(current.verdict, **numbered)
    return Decision(verdicts, {}, None, watch.warnings, (), due or at(1), changes=True)


def denial(reason: Reason = Reason.ACCESS_DENIED, *, when: datetime = START) -> dict[str, Any]:
    return {
        "outcome": Outcome.DENIED,
        "reason": reason,
        "message": f"denied: {reason}",
        "since": when,
        "observed_at": when,
        "evidence": (Evidence("unwrap", 403, "Forbidden", "AccessDenied", "request-1"), Evidence("get", 403)),
    }


def usability(*, when: datetime = START) -> dict[str, Any]:
    return {
        "outcome": Outcome.USABLE,
        "reason": None,
        "message": "the version unwraps",
        "since": when,
        "observed_at": when,
        "evidence": (),
    }


def suspicion(watch: Watch, *, when: datetime = START) -> dict[str, Any]:
    """A first denial: nothing that accounts hear of."""
    number = watch.current_version.verdict.number
    seen = (Evidence("get", 200, told="disabled", at=when),)
    return {"suspicion": Suspicion(Reason.ACCESS_DENIED, "refused once", when, evidence=seen), "number": number}


def unverified(*, when: datetime = START, told: bool = True) -> dict[str, Any]:
    return {"unverified": Unverified(Reason.TIMED_OUT, when, told=told)}


def adoption(watch: Watch, number: int, *, when: datetime = START) -> Decision:
    made = Adoption(version(number), when, probe(number), Verdict.adopted(when, detected_by=DetectedBy.HINT))
    told = KeyEvent(EventType.KEY_VERSION_DETECTED, {"keyIdentifier": str(watch.key.at(version(number)))})
    return replace(decision(watch), adoption=made, events=(told,))


class Stage:
    """A store, and short words for what tests do with it."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.lives = 0

    async def create(self, number: int = 1, *, key: KeyIdentifier | None = KEY, version: int = 1) -> Account:
        self.lives += 1
        return await self.store.create_account(
            spec(number, key=key), placement(version, key=key), incarnation=f"life-{self.lives}", now=START
        )

    async def watch(self, key: KeyIdentifier = KEY) -> Watch:
        found = await self.store.find_watch(target(key))
        assert found is not None
        return found

    async def account(self, number: int = 1) -> Account:
        found = await self.store.account(account_id(number))
        assert found is not None
        return found

    async def decide(self, key: KeyIdentifier = KEY, **changes: object) -> Watch:
        found = await self.watch(key)
        return await self.store.commit_decision(found, decision(found, **changes), now=at(1))

    async def adopt(self, number: int, key: KeyIdentifier = KEY) -> Watch:
        found = await self.watch(key)
        return await self.store.commit_decision(found, adoption(found, number, when=at(1)), now=at(1))

    async def work(self, number: int = 1, *, minutes: float = 60) -> RewrapWork:
        found = await self.store.rewrap_work(limit=1000, now=at(minutes))
        return next(work for work in found if work.account.id == account_id(number))

    async def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        return await self.store._runner.read(dump)

    async def history(self) -> list[Any]:
        """Every event as it was committed, in order."""
        return await self.store._runner.read(lambda c: list(c.execute(select(events).order_by(events.c.number))))

    async def rows(self, statement: Executable) -> list[tuple[Any, ...]]:
        return await self.store._runner.read(lambda c: [tuple(row) for row in c.execute(statement)])


def dump(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    return {
        table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
        for table in metadata.sorted_tables
    }


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, as those of the inline store, without an event loop."""
    try:
        work.send(None)
    except StopIteration as result:
        return result.value
    work.close()
    raise AssertionError("it gave way")


async def commit_rewrap(store: SqlStore, work: RewrapWork, wrap: SealedKey, *, now: datetime) -> None:
    """Commit a single rewrap, which must not be stale."""
    if await store.commit_rewraps([Rewrapped(work, wrap)], now=now) != {work.account.id}:
        raise StaleError("the rewrap was left out")
