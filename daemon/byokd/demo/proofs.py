"""The steps in which byokd proves that everything stored opens, and that its record is as it was written."""

import json
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from byokd.demo.contents import Contents
from byokd.demo.processes import ChildFailedError
from byokd.demo.scene import EVERYONE, PATIENCE, Scene, Seen, Step
from byokd.demo.stage import make_service_key

OLD, NEW = ("system.1", "storage.1"), ("system.2", "storage.2")
"""The service keys that seal. The audit key is never taken away."""


class Proofs:
    """What an operator and an auditor do."""

    def __init__(self, scene: Scene, contents: Contents) -> None:
        """Take the scene and what is protected in it."""
        self._scene = scene
        self._contents = contents

    def of_rotation(self) -> Sequence[Step]:
        """Give the step that replaces the service's own keys."""
        return (
            Step(
                "rotate-service-keys",
                "the operator adds new service keys, has everything sealed anew, and takes the old ones away",
                "the daemon starts without them, and everything still opens",
                self._rotate,
            ),
        )

    def of_keys(self) -> Sequence[Step]:
        """Give the step that opens everything stored."""
        return (
            Step(
                "keys-verify",
                "the operator has byokd prove that what it stores can be opened",
                "every account key, those before a rewrap too, and the content key open",
                self._verify,
            ),
        )

    def of_record(self) -> Sequence[Step]:
        """Give the step that reads the record of events."""
        return (
            Step(
                "audit",
                "an auditor verifies the record of events, and a copy of it in which one byte was changed",
                "the record is good and has just the events that the subscriber heard; in the copy the event is named",
                self._audit,
            ),
        )

    async def _rotate(self) -> Seen:
        service, keys = self._scene.stage.service, self._scene.stage.directory / "keys"
        for name in NEW:
            make_service_key(keys, name)
        orderly = await service.restart() == 0
        said = await self._scene.ask("keys", "rotate", "--json")
        if said.code != 0:
            return Seen(f"not all sealed anew: {said.err.strip()}", ok=False)
        ring = json.loads(said.out)
        starts = await self._takes_away(keys, ring["free"])
        opens, proofs = await self._contents.opens(), await self._proofs()
        good = opens and set(proofs) == {"opens"} and proofs["opens"] == self._stored()
        sealed = sum(use["keys"] + use["values"] for use in ring["uses"])
        free = " and ".join(ring["free"]) or "nothing"
        words = (
            f"{sealed - ring['remaining']} of {sealed} sealed anew; {free} taken away; "
            f"the daemon {'starts' if orderly and starts else 'does not stop and start well'}; "
            f"{_counted(proofs)}, the content key {'is' if opens else 'is not'} revealed"
        )
        return Seen(words, ok=orderly and starts and good and not ring["remaining"] and set(ring["free"]) == set(OLD))

    async def _takes_away(self, keys: Path, names: Sequence[str]) -> bool:
        """Take files away and tell whether the daemon starts without them; where it does not, put them back."""
        service, kept = self._scene.stage.service, keys.with_name("keys-before")
        kept.mkdir(mode=0o700)
        for name in names:
            (keys / f"{name}.key").rename(kept / f"{name}.key")
        try:
            return await service.restart() == 0
        except ChildFailedError:
            for path in kept.iterdir():
                path.rename(keys / path.name)
            await service.restart()
            return False

    async def _verify(self) -> Seen:
        proofs, expected = await self._proofs(), self._stored()
        return Seen(f"of {expected} stored: {_counted(proofs)}", ok=proofs == {"opens": expected})

    async def _proofs(self) -> dict[str, int]:
        """Give how many of what is stored were proved how."""
        said = await self._scene.ask("keys", "verify", "--json")
        lines = said.out.splitlines()
        proofs = json.loads(lines[-1]).get("proofs", {}) if lines else {}
        return {proof: number for proof, number in proofs.items() if number}

    def _stored(self) -> int:
        """Give how many keys and values there must be: one per account and rewrap, and the content key."""
        heard = self._scene.watcher.events(since=0, event_type="byokd.accountkey.rewrapped")
        return len(EVERYONE) + len({event.id for event in heard}) + 1

    async def _audit(self) -> Seen:
        stage, watcher = self._scene.stage, self._scene.watcher
        settings = ("--settings", str(stage.directory / "byokd.toml"), "--json")
        said = await self._scene.ask("audit", "verify", *settings)
        record = json.loads(said.out or b"{}")
        kept = await self._scene.ask("watch", "--since", "0", "--no-follow", "--json")
        committed = {json.loads(line)["id"] for line in kept.out.splitlines()}

        def heard() -> set[str]:
            return {one.id for one in watcher.heard if one.topic.endswith("/events")}

        took = await watcher.until(lambda: committed <= heard(), seconds=PATIENCE)
        changed = _changed_copy(stage.directory / "byokd.db", stage.directory / "copy.db")
        url = f"sqlite:///{stage.directory}/copy.db"
        told = await self._scene.ask("audit", "verify", *settings, BYOKD_STORE__URL=url)
        named = [(defect["flaw"], defect["number"]) for defect in json.loads(told.out or b"{}").get("defects", ())]
        good = (said.code, record.get("ok"), record.get("events")) == (0, True, len(committed))
        same = took is not None and heard() == committed
        found = told.code == 1 and named == [("event-changed", changed)]
        words = (
            f"{record.get('events')} events, {'as written' if good else 'not as written: ' + said.err.strip()}; "
            f"{len(committed & heard())} of {len(heard() | committed)} both recorded and heard; "
            f"event {changed} changed in the copy: {'named' if found else 'not found'}"
        )
        return Seen(words, ok=good and same and found)


def _changed_copy(database: Path, copy: Path) -> int:
    """Copy a database that is in use, flip one bit of one event in the copy, and give the event's number."""
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as other,
    ):
        source.backup(other)
        rows = other.execute("SELECT number, CAST(data AS BLOB) FROM events").fetchall()
        number, data = secrets.choice(rows)
        place = secrets.randbelow(len(data))
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with other:
            other.execute("UPDATE events SET data = CAST(? AS TEXT) WHERE number = ?", (flipped, number))
    return int(number)


def _counted(proofs: dict[str, Any]) -> str:
    """Tell proofs in words."""
    words = {"opens": "open"}
    told = (f"{number} {words.get(proof, proof.replace('-', ' '))}" for proof, number in proofs.items())
    return ", ".join(told) or "nothing proved"
