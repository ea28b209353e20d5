"""The management API's route that explains an account. Its answer is a stable contract, as `byokd explain --json`."""

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter

from byokd.domain.accounts import instant
from byokd.domain.answers import Evidence
from byokd.domain.brake import BrakeMode
from byokd.domain.vocabulary import EventType
from byokd.http.account_routes import shown
from byokd.http.managed import Managed, Reference, problem
from byokd.records import OutboxRow
from byokd.runtime.advising import Advice
from byokd.runtime.brake_words import why_engaged
from byokd.runtime.conditions import VersionStanding
from byokd.runtime.explaining import Explanation, Keep

Document = dict[str, object]

_TOLD = ("state", "reason", "message", "failure", "attempt", "keyIdentifier", "currentKeyIdentifier", "detectedBy")
"""Of the data of an event."""


@dataclass(frozen=True, slots=True)
class _Api:
    managed: Managed

    async def explain(self, ref: Reference) -> Document:
        found = await self.managed.find(ref)
        explained = await self.managed.explainer.explain(found.id)
        if explained is None:
            raise problem(404, f"there is no account {ref!r}", "byokd accounts list shows all")
        return self._document(explained)

    def _document(self, explained: Explanation) -> Document:
        prefix = self.managed.settings.mqtt.topic_prefix
        dossier = explained.dossier
        own = next((one for one in explained.versions if one.wraps_account), None)
        document: Document = {
            "account": shown(dossier.account),
            "ok": not explained.is_bad,
            "condition": str(explained.condition),
            "why": explained.bearing.why,
            "means": explained.bearing.means,
            "works": list(explained.bearing.works),
            "refused": list(explained.bearing.refused),
            "until": explained.bearing.until,
            "brake": self._brake(explained),
            "detectedBy": None if own is None else str(own.version.verdict.detected_by),
            "lastCheck": _instant(explained.last_look),
            "nextCheck": _instant(explained.next_look),
            "newestKeyIdentifier": None if explained.newest is None else str(explained.newest),
            "newestNotAdopted": explained.unadopted,
            "versions": [_version(one) for one in explained.versions],
            "warnings": [
                {"kind": str(warning.kind), "version": warning.version, "message": warning.message}
                for warning in (() if dossier.watch is None else dossier.watch.warnings)
            ],
            "rewrap": None,
            "remedies": [_remedy(advice) for advice in explained.advice],
            "keep": [_keep(keep, prefix, dossier.account.id.topic) for keep in explained.keep],
            "history": [_event(event) for event in dossier.events],
        }
        if explained.rewrap_waits_for is not None:
            document["rewrap"] = {
                "waitsFor": explained.rewrap_waits_for,
                "attempts": dossier.rewrap_attempts,
                "nextTry": _instant(dossier.rewrap_due_at),
            }
        return document

    def _brake(self, explained: Explanation) -> Document | None:
        engagement = explained.brake
        if engagement is None:
            return None
        settings = self.managed.settings.brake
        return {
            "engagedBy": str(engagement.by),
            "since": instant(engagement.since),
            "message": engagement.message,
            "mode": settings.mode,
            "holds": explained.dossier.brake.holds(BrakeMode(settings.mode)),
            "why": why_engaged(engagement),
        }


def explain_route(managed: Managed) -> APIRouter:
    """Give the route."""
    router, api = APIRouter(), _Api(managed)
    router.get("/account/explain")(api.explain)
    return router


def _version(standing: VersionStanding) -> Document:
    verdict = standing.version.verdict
    suspicion, unverified = verdict.suspicion, verdict.unverified
    return {
        "keyIdentifier": str(standing.identifier),
        "wrapsAccount": standing.wraps_account,
        "current": standing.is_current,
        "wrapsNewKeys": standing.wraps_new_keys,
        "verdict": {
            "outcome": str(verdict.outcome),
            "reason": _text(verdict.reason),
            "message": verdict.message,
            "since": instant(verdict.since),
            "detectedBy": str(verdict.detected_by),
            "observedAt": instant(verdict.observed_at),
            "evidence": [_evidence(answer) for answer in verdict.evidence],
        },
        "suspicion": None
        if suspicion is None
        else {
            "reason": str(suspicion.reason),
            "message": suspicion.message,
            "since": instant(suspicion.since),
            "countsFrom": _instant(standing.confirmed_at),
            "heldSince": _instant(suspicion.held_since),
            "heldUntil": _instant(standing.held_until),
            "evidence": [_evidence(answer) for answer in suspicion.evidence],
        },
        "unverified": None
        if unverified is None
        else {"reason": str(unverified.reason), "since": instant(unverified.since), "published": unverified.told},
        "looks": [
            {
                "at": instant(look.at),
                "detectedBy": str(look.detected_by),
                "connection": "new" if look.on_new_connection else "pooled",
                "outcome": str(seen.outcome),
                "reason": _text(seen.reason),
                "message": seen.message,
                "answers": [_evidence(answer) for answer in seen.answers],
            }
            for look, seen in standing.looks
        ],
    }


def _evidence(answer: Evidence) -> Document:
    return {
        "at": _instant(answer.at),
        "operation": answer.operation,
        "status": answer.status,
        "code": answer.code,
        "innerCode": answer.inner_code,
        "address": answer.address,
        "told": answer.told,
        "requestId": answer.request_id,
    }


def _remedy(advice: Advice) -> Document:
    return {
        "about": advice.about,
        "reason": advice.reason,
        "keyIdentifier": str(advice.key),
        "who": str(advice.remedy.mender),
        "text": advice.remedy.text,
        "commands": list(advice.remedy.commands),
        "portal": advice.remedy.portal,
    }


def _keep(keep: Keep, prefix: str, account_topic: str) -> Document:
    return {
        "keyIdentifier": str(keep.identifier),
        "newerKeyIdentifier": str(keep.newer),
        "wrapsAccount": keep.wraps_account,
        "until": {"type": str(EventType.KEY_VERSION_RETIRED), "topic": f"{prefix}/{keep.identifier.topic}/events"},
        "accountMoved": {"type": str(EventType.ACCOUNTKEY_REWRAPPED), "topic": f"{prefix}/{account_topic}/events"},
    }


def _event(event: OutboxRow) -> Document:
    told = {name: event.data[name] for name in _TOLD if event.data.get(name) is not None}
    return {"number": event.number, "time": instant(event.time), "type": event.type, **told}


def _instant(time: datetime | None) -> str | None:
    return None if time is None else instant(time)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
