"""The chain over the events of each stream: signed as they are appended, shortened from its beginning when they go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, Text, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from byokd.adapters.sql.columns import encode_document
from byokd.adapters.sql.many import insert_many, update_many
from byokd.adapters.sql.rows import AnyRow, Values
from byokd.adapters.sql.tables import chains, events
from byokd.domain.chain import Chain, event_bytes, moment
from byokd.ports import Auditor, Ids, StaleError

STREAMS = 500
"""Streams in one statement; databases bound the parameters of a statement."""

# The text that is signed is the text that is stored: it is not encoded a second time.
_APPEND = insert(events).values(data=bindparam("document", type_=Text()))
_BEGIN = insert(chains)
_ENDS = [field.name for field in fields(Chain)]
_CHAINS = (
    select(*(chains.c[name] for name in _ENDS), chains.c.mac)
    .where(chains.c.stream.in_(bindparam("streams", expanding=True)))
    .order_by(chains.c.stream)
    .with_for_update()
)
_MOVE = update(chains).where(chains.c.stream == bindparam("of_stream"), chains.c.mac == bindparam("known"))


@dataclass(frozen=True, slots=True)
class Recorder:
    """What a transaction needs to record events: ids for them, and the audit key that signs them."""

    ids: Ids
    auditor: Auditor


def append(connection: Connection, rows: Sequence[Values], recorder: Recorder) -> None:
    """Append events, each signing the one before it in its stream.

    Raises:
        StaleError: somebody else has just begun one of the streams.
    """
    if not rows:
        return
    known = _chains(connection, [row["stream"] for row in rows])
    after = {stream: chain for stream, (chain, _) in known.items()}
    signed = []
    for row in rows:
        chain = after.get(row["stream"]) or Chain(row["stream"])
        full = _signed(row, chain, recorder)
        signed.append(full)
        after[chain.stream] = chain.grown(full["mac"])
    insert_many(connection, _APPEND, signed)
    _save(connection, after.values(), known, recorder.auditor, moved=("head", "length"))


def forget(connection: Connection, rows: Iterable[AnyRow], recorder: Recorder) -> list[int]:
    """Move the floors of the streams above these events, the first of each stream in order; give those to delete.

    Left out is what another transaction has just forgotten, and events of streams without a chain: somebody removed
    it, and the events tell so.
    """
    rows = list(rows)
    known = _chains(connection, [row.stream for row in rows])
    after: dict[str, Chain] = {}
    gone = []
    for row in rows:
        chain = after.get(row.stream) or (known[row.stream][0] if row.stream in known else None)
        if chain is None or row.number <= chain.floor_number:
            continue
        gone.append(row.number)
        after[row.stream] = replace(chain, floor=row.mac, floor_number=row.number, forgotten=chain.forgotten + 1)
    _save(connection, after.values(), known, recorder.auditor, moved=("floor", "floor_number", "forgotten"))
    return gone


def _signed(row: Values, chain: Chain, recorder: Recorder) -> Values:
    event_id, document = recorder.ids.new(), encode_document(row["data"])
    account, incarnation, sequence = row.get("account"), row.get("incarnation"), row.get("sequence")
    signature = recorder.auditor.sign(
        event_bytes(
            chain.head,
            chain.stream,
            event_id,
            row["type"],
            moment(row["time"]),
            account,
            incarnation,
            sequence,
            document,
            row["retained"],
        )
    )
    return {
        "id": event_id,
        "stream": chain.stream,
        "type": row["type"],
        "time": row["time"],
        "account": account,
        "incarnation": incarnation,
        "sequence": sequence,
        "document": document,
        "retained": row["retained"],
        "previous": chain.head,
        "mac": signature.mac,
        "audit_key": signature.key_id,
    }


def _chains(connection: Connection, streams: Iterable[str]) -> dict[str, tuple[Chain, bytes]]:
    """Read the chains of streams with their macs; nobody else changes them until the transaction ends."""
    wanted = sorted(set(streams))
    rows = (
        row
        for start in range(0, len(wanted), STREAMS)
        for row in connection.execute(_CHAINS, {"streams": wanted[start : start + STREAMS]}).all()
    )
    # By position, because they come in thousands: a name costs more than all else.
    return {row[0]: (Chain(*row[:-1]), row[-1]) for row in rows}


def _save(
    connection: Connection,
    after: Iterable[Chain],
    known: dict[str, tuple[Chain, bytes]],
    auditor: Auditor,
    *,
    moved: Sequence[str],
) -> None:
    """Write chains: those that are known as far as they moved, the others whole."""
    begun: list[Values] = []
    changed: list[Values] = []
    for chain in after:
        signature = auditor.sign(chain.signed())
        row: dict[str, Any] = {"audit_key": signature.key_id, "mac": signature.mac}
        if chain.stream in known:
            ends = {name: getattr(chain, name) for name in moved}
            changed.append({**row, **ends, "of_stream": chain.stream, "known": known[chain.stream][1]})
        else:
            begun.append({**row, **{field.name: getattr(chain, field.name) for field in fields(chain)}})
    if changed and update_many(connection, _MOVE, changed) != len(changed):
        raise StaleError("a stream's chain was changed meanwhile")
    if begun:
        try:
            insert_many(connection, _BEGIN, begun)
        except IntegrityError as error:
            raise StaleError("somebody else has just begun one of the streams") from error
