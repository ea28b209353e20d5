"""`byokd explain`: why an account is as it is, and what mends it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from byokd.cli.daemon_calls import call, json_option, socket_option
from byokd.cli.voice import ExitCode, counted, print_json

_WHO = {
    "customer": "whoever administers the vault",
    "operator": "whoever runs byokd",
    "nobody": "nothing can be done now",
}


@click.command()
@click.argument("account")
@socket_option
@json_option
def explain(account: str, socket_path: Path, as_json: bool) -> None:
    """Say why an account is as it is, by what evidence, and what mends it. Exit 1 when it is not well.

    Vaults are not asked and not waited for: byokd check looks at a key now.
    """
    _, found = call(socket_path, "GET", "/account/explain", ref=account)
    if as_json:
        print_json(found)
    else:
        for line in _lines(found):
            click.echo(line)
    sys.exit(ExitCode.GOOD if found["ok"] else ExitCode.FOUND_BAD)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """What to do comes before what was seen, and what concerns this account before the rest."""
    yield from _head(found)
    if found["warnings"]:
        yield ""
    for warning in found["warnings"]:
        about = "" if warning["version"] is None else f"version {warning['version']}: "
        yield f"warning: {warning['kind']}: {about}{warning['message']}"
    for remedy in found["remedies"]:
        yield ""
        yield from _remedy(remedy)
    if found["rewrap"] is not None:
        yield ""
        yield from _rewrap(found["rewrap"])
    for keep in sorted(found["keep"], key=lambda keep: not keep["wrapsAccount"]):
        yield ""
        yield from _keep(keep)
    for version in sorted(found["versions"], key=lambda version: not version["wrapsAccount"]):
        yield ""
        yield from _version(version) if _matters(version) else _in_short(version)
    yield ""
    yield "history"
    for event in found["history"]:
        more = [str(event[name]) for name in ("state", "reason", "failure") if name in event]
        yield "  ".join([f"  {event['time']}", f"#{event['number']}", event["type"].removeprefix("byokd."), *more])


def _matters(version: dict[str, Any]) -> bool:
    """Whether every look at a version is shown: it wraps this account, or all is not well with it."""
    well = version["verdict"]["outcome"] == "Usable" and version["suspicion"] is version["unverified"] is None
    return version["wrapsAccount"] or not well


def _in_short(version: dict[str, Any]) -> Iterator[str]:
    yield from _version({**version, "looks": version["looks"][-1:], "verdict": {**version["verdict"], "evidence": []}})


def _head(found: dict[str, Any]) -> Iterator[str]:
    account = found["account"]
    encryption = account["encryption"]
    doubt = {
        "suspected": ", but a denial is suspected",
        "held": ", but a denial is held by the brake",
        "damaged": ", but damaged",
        "unverified": ", but unverified",
    }
    reason = f" ({account['reason']})" if account["reason"] else ""
    brake = found["brake"]
    yield f"{account['name']} is {account['state']}{reason}{doubt.get(found['condition'], '')}"
    rows = {
        "account": account["id"],
        "why": found["why"],
        "state since": account["since"] + (f", detected by {found['detectedBy']}" if found["detectedBy"] else ""),
        "means": found["means"],
        "works": _listed(found["works"]),
        "refused": _listed(found["refused"]),
        "until": found["until"],
        "brake": None if brake is None else brake["why"] + ("" if brake["holds"] else " (it only observes)"),
        "key": encryption["keyIdentifier"] or "the service's own system key",
        "wrapped by": encryption["currentKeyIdentifier"],
        "newest": found["newestKeyIdentifier"],
        "not adopted": found["newestNotAdopted"],
        "identity": encryption["identity"],
        "tenant": account["tenant"],
        "last check": found["lastCheck"] or ("not since the start" if found["versions"] else None),
        "next check": found["nextCheck"],
    }
    for name, value in rows.items():
        if value is not None:
            yield f"  {name:<11} {value}"


def _listed(words: list[str]) -> str | None:
    """Put each on a line of its own, below the first."""
    return "\n".join([*words[:1], *(f"  {'':<11} {more}" for more in words[1:])]) or None


def _version(version: dict[str, Any]) -> Iterator[str]:
    roles = [
        *(["wraps this account"] if version["wrapsAccount"] else ["does not wrap this account"]),
        *(["wraps new keys"] if version["wrapsNewKeys"] else []),
        *(["current, but wraps no new keys now"] if version["current"] and not version["wrapsNewKeys"] else []),
    ]
    verdict, suspicion, unverified = version["verdict"], version["suspicion"], version["unverified"]
    yield f"version {version['keyIdentifier'].rpartition('/')[2]} ({', '.join(roles)})"
    reason = f" ({verdict['reason']})" if verdict["reason"] else ""
    so_far = "so far " if suspicion is not None else ""
    yield f"  {so_far}{verdict['outcome']}{reason} since {verdict['since']}, detected by {verdict['detectedBy']}"
    if suspicion is not None:
        yield f"  suspected: {suspicion['reason']} since {suspicion['since']}: {suspicion['message']}"
        if suspicion["heldSince"] is not None:
            yield f"    held by the brake since {suspicion['heldSince']}, until {suspicion['heldUntil']} at most"
            yield "    byokd brake status says why"
        else:
            yield f"    counts when it is seen again from {suspicion['countsFrom']} on"
        yield from _rests_on("the suspicion", suspicion["evidence"])
    if unverified is not None:
        told = "published" if unverified["published"] else "not published yet"
        yield f"  unverified since {unverified['since']}: {unverified['reason']} ({told})"
    for look in version["looks"]:
        seen = f"{look['outcome']} ({look['reason']})" if look["reason"] else look["outcome"]
        fresh = " on a new connection" if look["connection"] == "new" else ""
        yield f"  seen {look['at']} by {look['detectedBy']}{fresh}: {seen}"
        yield from (f"    {_answer(answer)}" for answer in look["answers"])
    if not version["looks"]:
        yield "  not looked at since the start"
    yield from _rests_on("the verdict", verdict["evidence"])


def _rests_on(what: str, evidence: list[dict[str, Any]]) -> Iterator[str]:
    at = None
    for answer in evidence:
        if answer["at"] != at:
            at = answer["at"]
            yield f"  {what} rests on what was seen {at}:"
        yield f"    {_answer(answer)}"


def _answer(answer: dict[str, Any]) -> str:
    codes = "/".join(code for code in (answer["code"], answer["innerCode"]) if code)
    parts = [answer["operation"], "no answer" if answer["status"] is None else str(answer["status"]), codes]
    if answer["told"]:
        parts.append(answer["told"])
    if answer["address"]:
        parts.append(f"our address {answer['address']}")
    if answer["requestId"]:
        parts.append(f"x-ms-request-id {answer['requestId']}")
    return "  ".join(part for part in parts if part)


def _rewrap(rewrap: dict[str, Any]) -> Iterator[str]:
    yield f"the account key is still to be moved to the newer version: it waits for {rewrap['waitsFor']}"
    if rewrap["attempts"]:
        yield f"  failed {counted(rewrap['attempts'], 'time')}; next try {rewrap['nextTry'] or 'when its turn comes'}"


def _remedy(remedy: dict[str, Any]) -> Iterator[str]:
    yield f"to mend {remedy['reason']} ({remedy['about']}): {remedy['text']}"
    if remedy["commands"]:
        yield f"  {_WHO[remedy['who']]}:"
        yield from (f"    {command}" for command in remedy["commands"])
    if remedy["portal"]:
        yield f"  or in the portal: {remedy['portal']}"


def _keep(keep: dict[str, Any]) -> Iterator[str]:
    old, new = (keep[name].rpartition("/")[2] for name in ("keyIdentifier", "newerKeyIdentifier"))
    needs = "this account's key is still wrapped by it" if keep["wrapsAccount"] else "former wraps are still kept"
    yield f"version {old} must stay enabled for a while, although there is the newer {new}: {needs}"
    if keep["wrapsAccount"]:
        yield f"  this account has moved when {keep['accountMoved']['type']} comes on {keep['accountMoved']['topic']}"
    yield f"  it may be disabled when {keep['until']['type']} comes for it on {keep['until']['topic']}"
