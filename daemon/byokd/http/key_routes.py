"""The management API's routes about the service's own keys and what is sealed with them."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from byokd.domain.accounts import instant
from byokd.http.managed import Managed
from byokd.ports import StoreUnavailableError
from byokd.runtime.resealer import Ring
from byokd.runtime.verifying import Proof, counted_by_proof


@dataclass(frozen=True, slots=True)
class _Api:
    """One method per route."""

    managed: Managed

    async def ring(self) -> dict[str, object]:
        return _shown(await self.managed.resealer.ring())

    async def rotate(self) -> dict[str, object]:
        return _shown(await self.managed.resealer.order())

    async def verify(self) -> StreamingResponse:
        return StreamingResponse(self._verification(), media_type="application/x-ndjson")

    async def _verification(self) -> AsyncIterator[str]:
        """Give a line per bad finding, and the numbers after each page. The last line says that it is the last."""
        numbers: Counter[Proof] = Counter(dict.fromkeys(Proof, 0))
        try:
            async for page in self.managed.verifier.findings():
                numbers.update(counted_by_proof(page))
                for finding in page:
                    if finding.is_bad:
                        yield json.dumps({"finding": asdict(finding)}) + "\n"
                yield json.dumps({"proofs": numbers}) + "\n"
        except StoreUnavailableError as error:
            yield json.dumps({"error": {"message": str(error), "hint": error.hint}}) + "\n"
        else:
            yield json.dumps({"done": True, "proofs": numbers}) + "\n"


def key_routes(managed: Managed) -> APIRouter:
    """Give the routes about the service's keys."""
    router, api = APIRouter(), _Api(managed)
    router.get("/keys")(api.ring)
    router.post("/keys/rotate")(api.rotate)
    router.post("/keys/verify", response_model=None)(api.verify)
    return router


def _shown(ring: Ring) -> dict[str, object]:
    rotation = ring.rotation
    return {
        "newest": ring.newest,
        "live": {kind: list(ids) for kind, ids in ring.live.items()},
        "uses": [asdict(use) for use in ring.uses],
        "remaining": ring.remaining,
        "free": list(ring.free),
        "rotation": None
        if rotation is None
        else {
            "number": rotation.number,
            "storageKey": rotation.storage_key,
            "systemKey": rotation.system_key,
            "begunAt": instant(rotation.begun_at),
            "endedAt": None if rotation.ended_at is None else instant(rotation.ended_at),
            "waits": ring.waits,
            "stuck": rotation.stuck,
        },
        "stuck": [asdict(one) for one in ring.stuck],
    }
