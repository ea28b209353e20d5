"""The record of events as an auditor reads it: beside a running daemon, believing nothing that is not signed."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, bindparam, event, exists, func, select, type_coerce
from sqlalchemy.types import NullType

from byokd.adapters.sql.history import PAGE, number_before
from byokd.adapters.sql.outbox import COLUMNS, outbox_row
from byokd.adapters.sql.read_only import guest_of
from byokd.adapters.sql.rows import AnyRow
from byokd.adapters.sql.runners import transact
from byokd.adapters.sql.tables import accounts, chains, events
from byokd.domain.chain import Chain, Defect, Flaw, ForgottenError, Genuine, Heads, HeadsDigest, KnownHead, Link, Walk
from byokd.domain.vocabulary import EventType
from byokd.ports import Auditor, ServiceKeyMissingError, Signature
from byokd.records import SignedEvent
from byokd.settings import StoreSettings

STREAMS = 500
"""Streams looked at in one transaction: the snapshot of a long one would keep the daemon's log from being emptied."""

NAMED = 1000
"""Streams and accounts named of those that have no chain or no event at all."""


def _raw(column: Column[Any]) -> ColumnElement[Any]:
    """Read what is stored, of whatever type it is by now."""
    return type_coerce(column, NullType()).label(column.name)


_CHAINS = (
    select(*[_raw(column) for column in chains.c])
    .where(chains.c.stream > bindparam("after", type_=NullType()))
    .order_by(chains.c.stream)
    .limit(STREAMS)
)
_LINKS = (
    select(*[_raw(column) for column in events.c if column.name != "published_at"])
    .where(events.c.stream.in_(bindparam("streams", type_=NullType(), expanding=True)))
    .order_by(events.c.stream, events.c.number)
    .execution_options(yield_per=PAGE)
)
_HAS = select(events.c.number).where(
    events.c.stream == bindparam("stream", type_=NullType()), events.c.mac == bindparam("mac")
)
_ACCOUNTS = select(accounts.c.id, accounts.c.incarnation, accounts.c.sequence).where(
    accounts.c.id.in_(bindparam("ids", type_=NullType(), expanding=True))
)
_WITHOUT_CHAIN = (
    select(events.c.stream, func.min(events.c.number).label("number"))
    .where(~exists().where(chains.c.stream == events.c.stream))
    .group_by(events.c.stream)
    .limit(NAMED)
)
_WITHOUT_EVENT = select(accounts.c.id).where(~exists().where(events.c.account == accounts.c.id)).limit(NAMED)
_CHAIN = select(chains).where(chains.c.stream == bindparam("stream"))
_HEADS = select(chains).order_by(chains.c.stream).execution_options(yield_per=PAGE)
_HEAD_THEN = (
    select(events.c.mac)
    .where(events.c.stream == chains.c.stream, events.c.number <= bindparam("then"))
    .order_by(events.c.number.desc())
    .limit(1)
    .scalar_subquery()
)
_HEADS_THEN = (
    select(chains.c.stream, chains.c.floor, chains.c.floor_number, chains.c.forgotten, _HEAD_THEN.label("head"))
    .order_by(chains.c.stream)
    .execution_options(yield_per=PAGE)
)
_LAST = select(func.max(events.c.number))
_SIGNED = (
    select(
        *COLUMNS,
        events.c.account,
        events.c.incarnation,
        events.c.sequence,
        events.c.previous,
        events.c.mac,
        events.c.audit_key,
    )
    .where(events.c.number > bindparam("after"))
    .order_by(events.c.number)
    .execution_options(yield_per=PAGE)
)


@contextmanager
def reading(settings: StoreSettings) -> Iterator[Engine]:
    """Open the database for reading only, without claiming it.

    Raises:
        StoreUnavailableError: there is none, its schema is another one, or what was read may be torn.
    """
    guest = guest_of(settings)
    if settings.path is not None:
        event.listen(guest.engine, "connect", _take_any_bytes)
    try:
        yield guest.engine
        guest.confirm()
    finally:
        guest.engine.dispose()


def _take_any_bytes(connection: sqlite3.Connection, _record: object) -> None:
    """A flipped bit may leave text that is no UTF-8 any more: that is a finding, not an error."""
    connection.text_factory = lambda content: content.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class Audit:
    """Verifies the record. `streams` and `events` tell how much has been looked at."""

    engine: Engine
    auditor: Auditor
    streams: int = 0
    events: int = 0
    _after: object = field(default="")

    def defects(self) -> Iterator[Defect]:
        """Give everything that is wrong, stream by stream.

        Raises:
            StoreUnavailableError: the database cannot be used.
        """
        while found := transact(self.engine, self._page):
            yield from found[0]
        yield from transact(self.engine, _left_over)

    def _page(self, connection: Connection) -> tuple[list[Defect]] | None:
        rows = connection.execute(_CHAINS, {"after": self._after}).all()
        if not rows:
            return None
        self._after = rows[-1].stream
        links = groupby(
            (_link(row) for row in connection.execute(_LINKS, {"streams": [row.stream for row in rows]})),
            key=lambda link: link.stream,
        )
        defects: list[Defect] = []
        ends: list[Link] = []
        group = next(links, None)
        for row in rows:
            of_stream: Iterator[Link] = iter(())
            if group is not None and group[0] == row.stream:
                of_stream = group[1]
            walk = self._walk(connection, row, defects)
            defects += walk.defects(of_stream)
            if group is not None and group[0] == row.stream:
                group = next(links, None)
            self.streams += 1
            self.events += walk.seen
            if walk.last is not None and isinstance(walk.last.account, str):
                ends.append(walk.last)
        defects += _accounts_that_differ(connection, ends)
        return (defects,)

    def _walk(self, connection: Connection, row: AnyRow, defects: list[Defect]) -> Walk:
        chain = Chain(row.stream, row.floor, row.floor_number, row.forgotten, row.head, row.length)
        trusted: Chain | None = chain
        match self._judge(chain.signed(), row.audit_key, row.mac):
            case Genuine.NO:
                defects.append(
                    Defect(Flaw.CHAIN_CHANGED, str(row.stream), None, "the stream's chain is not as it was written")
                )
                trusted = None
            case Genuine.KEY_MISSING:
                message = f"the audit key {row.audit_key!r} of the stream's chain is not there"
                defects.append(Defect(Flaw.AUDIT_KEY_MISSING, str(row.stream), None, message))
            case Genuine.YES:
                pass
        return Walk(
            str(row.stream),
            trusted,
            lambda link: self._judge(link.signed(), link.audit_key, link.mac),
            lambda mac: connection.execute(_HAS, {"stream": row.stream, "mac": mac}).first() is not None,
        )

    def _judge(self, data: bytes, key_id: object, mac: object) -> Genuine:
        if not isinstance(key_id, str) or not isinstance(mac, bytes):
            return Genuine.NO
        try:
            genuine = self.auditor.is_genuine(data, Signature(key_id, mac))
        except ServiceKeyMissingError:
            return Genuine.KEY_MISSING
        return Genuine.YES if genuine else Genuine.NO

    def missing(self, known: KnownHead) -> Defect | None:
        """Tell whether a head that was exported earlier is in the record no more, nor behind a floor."""
        return transact(self.engine, lambda connection: _missing(connection, known))

    def differing(self, known: Heads) -> Defect | None:
        """Tell whether the heads as they were at an event differ from those that were published then.

        Raises:
            ForgottenError: events from after that one were forgotten; it cannot be told any more.
        """
        then = transact(self.engine, lambda connection: _heads_then(connection, known.last_event))
        if then == known:
            return None
        message = f"the heads up to this event ({then.digest}) are not those that were published ({known.digest})"
        return Defect(Flaw.HEAD_UNKNOWN, "", known.last_event, message)


def export(
    engine: Engine,
    *,
    since: int | datetime | None,
    on_event: Callable[[SignedEvent], None],
    on_head: Callable[[KnownHead], None],
) -> Heads:
    """Hand over the events after that number or from that time on (None: no events), then the heads; give their digest.

    Raises:
        StoreUnavailableError: the database cannot be used.
    """

    def whole(connection: Connection) -> Heads:
        if since is not None:
            after = number_before(connection, since) if isinstance(since, datetime) else since
            for row in connection.execute(_SIGNED, {"after": after}):
                on_event(_signed_event(row))
        digest = HeadsDigest()
        for row in connection.execute(_HEADS):
            digest.add(row.stream, row.head)
            on_head(KnownHead(row.stream, row.head, row.length))
        return digest.heads(last_event=connection.scalar(_LAST) or 0)

    return transact(engine, whole)


def _link(row: AnyRow) -> Link:
    return Link(**row._asdict())


def _signed_event(row: AnyRow) -> SignedEvent:
    return SignedEvent(
        outbox_row(row), row.account, row.incarnation, row.sequence, row.previous, row.mac, row.audit_key
    )


def _accounts_that_differ(connection: Connection, ends: list[Link]) -> Iterator[Defect]:
    """Compare the last events of accounts with the accounts."""
    present = {row.id: row for row in connection.execute(_ACCOUNTS, {"ids": [link.account for link in ends]})}
    for link in ends:
        account, is_deleted = present.get(str(link.account)), link.type == EventType.ACCOUNT_DELETED
        stream = str(link.stream)
        if account is None:
            if not is_deleted:
                yield Defect(Flaw.ACCOUNT_DIFFERS, stream, link.number, "the account is gone, and no event says why")
        elif is_deleted or (account.incarnation, account.sequence) != (link.incarnation, link.sequence):
            message = (
                f"the account is at sequence {account.sequence} of incarnation {account.incarnation}, "
                f"its last event is {link.sequence} of {link.incarnation}"
            )
            yield Defect(Flaw.ACCOUNT_DIFFERS, stream, link.number, message)


def _left_over(connection: Connection) -> list[Defect]:
    """Give events without a chain and accounts without events."""
    return [
        Defect(Flaw.CHAIN_MISSING, str(row.stream), row.number, "the stream has events from this one on, and no chain")
        for row in connection.execute(_WITHOUT_CHAIN)
    ] + [
        Defect(Flaw.ACCOUNT_DIFFERS, str(row.id), None, "there is an account, and no event of it")
        for row in connection.execute(_WITHOUT_EVENT)
    ]


def _missing(connection: Connection, known: KnownHead) -> Defect | None:
    row = connection.execute(_CHAIN, {"stream": known.stream}).one_or_none()
    if row is None:
        return Defect(Flaw.HEAD_UNKNOWN, known.stream, None, "the stream of this head is not there")
    if row.length < known.length:
        message = f"the stream had {known.length} events once, and now {row.length}: it was set back"
        return Defect(Flaw.HEAD_UNKNOWN, known.stream, None, message)
    if known.length < row.forgotten or (known.length == row.forgotten and known.head == row.floor):
        return None
    if connection.execute(_HAS, {"stream": known.stream, "mac": known.head}).first() is None:
        return Defect(Flaw.HEAD_UNKNOWN, known.stream, None, "the event that was this head is not there")
    return None


def _heads_then(connection: Connection, then: int) -> Heads:
    """Give the heads of all streams as they were when the event of that number was the last."""
    digest = HeadsDigest()
    with connection.execute(_HEADS_THEN, {"then": then}) as rows:
        for row in rows:
            head = row.head
            if head is None and row.forgotten:
                if row.floor_number > then:
                    raise ForgottenError(f"events from after number {then} were forgotten since")
                head = row.floor
            if head is not None:
                digest.add(row.stream, head)
    return digest.heads(last_event=then)
