"""The management API's routes about accounts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from fastapi import APIRouter

from byokd.domain.accounts import Account, instant
from byokd.domain.identifiers import WrappingVersionId
from byokd.domain.verdict import WatchWarning
from byokd.http.managed import Managed, Reference, problem
from byokd.records import Doubt, Gate
from byokd.runtime.checker import Checked
from byokd.settings import BrakeSettings


@dataclass(frozen=True, slots=True)
class _Api:
    """One method per route."""

    managed: Managed

    async def accounts(self) -> list[dict[str, object]]:
        found = await self.managed.store.accounts()
        doubts, settings = await self.managed.store.doubts(), self.managed.settings.brake
        return [{**shown(account), **shown_doubt(_of(account, doubts), settings)} for account in found]

    async def account(self, ref: Reference) -> dict[str, object]:
        found = await self.managed.find(ref)
        watch = None if found.watch is None else await self.managed.store.watch(found.watch)
        own = None if watch is None else next((one for one in watch.versions if one.id == found.wrapping_version), None)
        doubt = None if own is None else Doubt(own.verdict.suspicion, own.verdict.unverified)
        return {
            **shown(found),
            **shown_doubt(doubt, self.managed.settings.brake),
            "heldDenial": _held(await self.managed.store.gate(found.id)),
            "warnings": shown_warnings(() if watch is None else watch.warnings),
        }

    async def delete(self, ref: Reference) -> dict[str, object]:
        found = await self.managed.find(ref)
        return {"id": str(found.id), "deleted": await self.managed.registrar.delete(found.id)}

    async def check(self, ref: Reference) -> dict[str, object]:
        found = await self.managed.find(ref)
        if found.watch is None:
            raise problem(409, "the account uses the system key", "there is no customer key to check")
        checked = await self.managed.scheduler.check_now(found.watch)
        if checked is None:
            raise problem(409, "the account's key is not watched any more", "show the account again")
        self.managed.requirements.now(found.watch)
        account = await self.managed.find(str(found.id))
        if account.damage is not None:
            await self.managed.damages.try_again(account)
            account = await self.managed.find(str(found.id))
        return {
            "account": shown(account),
            "observations": list(_observations(checked, account)),
            "warnings": shown_warnings(checked.decision.warnings),
            "nextCheck": instant(checked.decision.next_due),
        }


def account_routes(managed: Managed) -> APIRouter:
    """Give the routes about accounts."""
    router, api = APIRouter(), _Api(managed)
    router.get("/accounts")(api.accounts)
    router.get("/account")(api.account)
    router.delete("/account")(api.delete)
    router.post("/account/check")(api.check)
    return router


def _of(account: Account, doubts: Mapping[WrappingVersionId, Doubt]) -> Doubt | None:
    return None if account.wrapping_version is None else doubts.get(account.wrapping_version)


def shown_doubt(doubt: Doubt | None, settings: BrakeSettings) -> dict[str, object]:
    """Give what the state of an account does not tell: a denial that does not count (yet), and that nobody answers."""
    suspicion, unverified = (None, None) if doubt is None else (doubt.suspicion, doubt.unverified)
    held = None if suspicion is None else suspicion.held_since
    return {
        "suspicion": None
        if suspicion is None
        else {
            "reason": str(suspicion.reason),
            "message": suspicion.message,
            "since": instant(suspicion.since),
            "heldSince": None if held is None else instant(held),
            "heldUntil": None if held is None else instant(held + settings.max_hold),
        },
        "unverified": None
        if unverified is None
        else {"reason": str(unverified.reason), "since": instant(unverified.since), "published": unverified.told},
    }


def _held(gate: Gate | None) -> dict[str, object] | None:
    """Tell of a denial of the account's key that the brake holds."""
    suspicion = None if gate is None or gate.standing is None else gate.standing.suspicion
    if suspicion is None or suspicion.held_since is None:
        return None
    since, held_since = instant(suspicion.since), instant(suspicion.held_since)
    return {"reason": str(suspicion.reason), "message": suspicion.message, "since": since, "heldSince": held_since}


def _observations(checked: Checked, account: Account) -> Iterator[dict[str, object]]:
    for version in checked.watch.versions:
        observation = checked.decision.observations.get(version.id)
        if observation is None:
            continue
        yield {
            "keyIdentifier": str(checked.watch.key.at(version.version)),
            "wrapsAccount": version.id == account.wrapping_version,
            "outcome": str(observation.outcome),
            "reason": None if observation.reason is None else str(observation.reason),
            "message": observation.message,
            "evidence": [asdict(evidence) for evidence in observation.evidence],
            "verdict": str(version.verdict.outcome),
            "confirming": version.verdict.suspicion is not None,
        }


def shown_warnings(warnings: Iterable[WatchWarning]) -> list[dict[str, object]]:
    """Give what is amiss with an account's key; `version` is null where it concerns all of it."""
    return [
        {
            "kind": str(warning.kind),
            "version": warning.version,
            "message": warning.message,
            "date": None if warning.date is None else instant(warning.date),
        }
        for warning in warnings
    ]


def shown(account: Account) -> dict[str, object]:
    """Give an account as the command line prints it: never a key, wrapped or not."""
    customer_key = account.spec.customer_key
    return {
        "id": str(account.id),
        "name": account.id.name,
        "tenant": account.spec.tenant,
        "location": account.spec.location,
        "state": str(account.state),
        "reason": None if account.reason is None else str(account.reason),
        "message": account.message,
        "since": instant(account.since),
        "unverifiedSince": None if account.unverified_since is None else instant(account.unverified_since),
        "damagedSince": None if account.damage is None else instant(account.damage.since),
        "damage": None if account.damage is None else account.damage.message,
        "encryption": {
            "type": str(account.encryption),
            "keyIdentifier": None if customer_key is None else str(customer_key.key),
            "currentKeyIdentifier": None if account.current is None else str(account.current),
            "identity": account.spec.identity,
        },
        "generation": account.generation,
        "incarnation": account.incarnation,
        "sequence": account.sequence,
        "createdAt": instant(account.created_at),
        "updatedAt": instant(account.updated_at),
    }
