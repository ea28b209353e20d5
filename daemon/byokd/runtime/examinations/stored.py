"""The database and the service's own keys."""

import asyncio
from collections.abc import Sequence

from byokd.ports import ServiceKeysUnusableError, StoreUnavailableError
from byokd.ports.examining import Instruments, StoreLook
from byokd.runtime.findings import Finding, bad, ok, warn
from byokd.runtime.service_keys import refuse_unfit_keys

DATABASE = "database"
SERVICE_KEYS = "service-keys"


async def look_at_store(instruments: Instruments) -> StoreLook | StoreUnavailableError:
    """Look once, for all examinations that need it."""
    try:
        return await asyncio.to_thread(instruments.look_at_store)
    except StoreUnavailableError as error:
        return error


def examine_database(
    look: StoreLook | StoreUnavailableError, *, upgrade_at_start: bool, daemon_answers: bool
) -> Finding:
    """Reachable, of this version's schema, and held by nobody but the daemon that answers."""
    if isinstance(look, StoreUnavailableError):
        return bad(DATABASE, str(look), hint=look.hint)
    if (flaw := _flaw_of_schema(look, upgrade_at_start=upgrade_at_start)) is not None:
        return flaw
    if look.exposed is not None:
        return bad(DATABASE, look.exposed, hint="let nobody but the service's user read and write it: chmod 0600")
    if look.holder is not None and not daemon_answers:
        found = f"{look.place} is held by {look.holder}, and no daemon answers on the socket"
        hint = "see what that process is: a daemon with another service.socket, one that hangs, or a backup"
        return warn(DATABASE, found, hint=hint)
    if look.schema is None:
        return ok(DATABASE, f"{look.place} is still empty: its tables are made at the start")
    upgrade = "" if look.schema == look.needed else f", to be upgraded to {look.needed} at the start"
    held = f", held by {look.holder}" if look.holder else ""
    return ok(DATABASE, f"{look.place}: schema {look.schema}{upgrade}, accounts: {look.accounts}{held}")


def _flaw_of_schema(look: StoreLook, *, upgrade_at_start: bool) -> Finding | None:
    if look.schema is not None and look.schema > look.needed:
        found = f"{look.place} has the schema {look.schema} of a newer version; this one needs {look.needed}"
        return bad(DATABASE, found, hint="run the newer version of byokd, or restore a backup from before")
    if look.schema != look.needed and not upgrade_at_start:
        found = f"{look.place} has the schema {look.schema or 'none'}, needed is {look.needed}"
        return bad(DATABASE, found, hint="run `byokd db upgrade`, for store.upgrade_at_start is off")
    return None


async def examine_service_keys(
    instruments: Instruments, look: StoreLook | StoreUnavailableError, *, proved: bool
) -> Sequence[Finding]:
    """There, readable by their owner alone, and those that sealed what is stored.

    `proved` tells whether a running daemon has proved them: it may read what this process may not.
    """
    live = "they"
    try:
        sealer = await asyncio.to_thread(instruments.service_keys)
        live = ", ".join(sorted(f"{kind}.{key_id}" for kind, key_id in sealer.fingerprints()))
        if isinstance(look, StoreLook) and look.schema == look.needed:
            await refuse_unfit_keys(await asyncio.to_thread(instruments.sealed_store), sealer)
            return [ok(SERVICE_KEYS, f"{live}: those that sealed the database")]
    except ServiceKeysUnusableError as error:
        if proved:
            found = f"the running daemon has proved its keys, but here: {error}"
            return [warn(SERVICE_KEYS, found, hint=f"to examine its own files run this as root; else: {error.hint}")]
        return [bad(SERVICE_KEYS, str(error), hint=error.hint)]
    except StoreUnavailableError as error:
        return [warn(SERVICE_KEYS, f"{live}; not compared with the database: {error}", hint=error.hint)]
    if isinstance(look, StoreUnavailableError):
        return [ok(SERVICE_KEYS, f"{live}; not compared with the database, which cannot be read")]
    return [ok(SERVICE_KEYS, f"{live}; there is nothing yet that they could have sealed")]
