"""`byokd keys ...`: the service's own keys, and whether what they sealed opens."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from byokd.cli.daemon_calls import call, json_option, lines_of, socket_option
from byokd.cli.service import read_or_fail, settings_option
from byokd.cli.voice import ExitCode, counted, fail, print_json, say_error
from byokd.ports import ServiceKeysUnusableError, StoreUnavailableError

LOOK_SECONDS = 0.5
"""How often a rotation's progress is looked at."""


@click.group()
def keys() -> None:
    """Look after the service's own keys and what they seal."""


@keys.command(name="list")
@socket_option
@json_option
def list_keys(socket_path: Path, as_json: bool) -> None:
    """List the service's keys, what they seal and how the last rotation went."""
    _, ring = call(socket_path, "GET", "/keys")
    if as_json:
        print_json(ring)
        return
    for kind, ids in sorted(ring["live"].items()):
        for key_id in ids:
            name = f"{kind}.{key_id}"
            newest = ", newest" if ring["newest"][kind] == key_id else ""
            number = "" if kind == "audit" else f": {_sealed_by(ring, kind, key_id)} sealed"
            click.echo(f"{name}{number}{newest}{', seals nothing any more' if name in ring['free'] else ''}")


@keys.command()
@click.option("--wait/--no-wait", default=True, help="Wait until it is done (the default), or only order it.")
@socket_option
@json_option
def rotate(wait: bool, socket_path: Path, as_json: bool) -> None:
    """Seal everything anew that older service keys sealed.

    The daemon does it in the background and goes on after a restart. Put the new key files there, back them up and
    restart the daemon first. Exit 1 when something did not open; it is left as it is.
    """
    _, ring = call(socket_path, "POST", "/keys/rotate", body={})
    number, told = ring["rotation"]["number"], -1
    while wait and ring["rotation"]["endedAt"] is None:
        if ring["rotation"]["number"] != number or ring["rotation"]["waits"]:
            fail("another rotation took its place", hint="byokd keys list shows how things are")
        if ring["remaining"] != told:
            told = ring["remaining"]
            click.echo(f"{counted(told, 'seal')} to go", err=True)
        time.sleep(LOOK_SECONDS)
        _, ring = call(socket_path, "GET", "/keys")
    if as_json:
        print_json(ring)
    else:
        _tell_rotation(ring)
    sys.exit(ExitCode.FOUND_BAD if ring["rotation"]["stuck"] else ExitCode.GOOD)


@keys.command()
@click.option("--offline", is_flag=True, help="Read the database here, beside a daemon or without one.")
@click.option("--vaults", is_flag=True, help="With --offline: ask the customers' vaults from here too.")
@settings_option
@socket_option
@json_option
def verify(offline: bool, vaults: bool, settings_path: Path, socket_path: Path, as_json: bool) -> None:
    """Prove that every account key and every protected value opens, or name those that do not.

    Nothing is changed. The daemon has each customer's vault unwrap; with --offline nothing is proved beyond the vault's
    door unless --vaults is given. Exit 1 when something is damaged or cannot be proved now.
    """
    if vaults and not offline:
        fail("--vaults goes with --offline; the daemon asks the vaults anyway", code=ExitCode.USAGE)
    if offline:
        proofs = asyncio.run(_verify_offline(settings_path, vaults=vaults, as_json=as_json))
    else:
        proofs = _verify_online(socket_path, as_json=as_json)
    good = not (proofs["damaged"] or proofs["cannot-be-proved-now"])
    if as_json:
        click.echo(json.dumps({"ok": good, "proofs": proofs}))
    else:
        click.echo(", ".join(f"{number} {proof.replace('-', ' ')}" for proof, number in proofs.items()))
        if not sum(proofs.values()):
            click.echo("nothing is stored yet", err=True)
    sys.exit(ExitCode.GOOD if good else ExitCode.FOUND_BAD)


def _verify_online(socket_path: Path, *, as_json: bool) -> Mapping[str, int]:
    proofs: Mapping[str, int] | None = None
    for line in lines_of(socket_path, "POST", "/keys/verify"):
        if "error" in line:
            fail(f"verification broke off: {line['error']['message']}", hint=line["error"]["hint"])
        if "finding" in line:
            _tell_finding(line["finding"], as_json=as_json)
        if line.get("done"):
            proofs = line["proofs"]
    if proofs is None:
        fail("verification broke off before its end", hint="look at the daemon's log")
    return proofs


async def _verify_offline(settings_path: Path, *, vaults: bool, as_json: bool) -> Mapping[str, int]:
    settings = read_or_fail(settings_path)
    from byokd.runtime.offline import verify_offline  # noqa: PLC0415 - loads all adapters; --help starts without
    from byokd.runtime.private_memory import keep_memory_private  # noqa: PLC0415 - as above

    keep_memory_private()

    def tell(finding: Mapping[str, str]) -> None:
        _tell_finding(finding, as_json=as_json)

    try:
        return await verify_offline(settings, vaults=vaults, tell=tell)
    except ServiceKeysUnusableError as error:
        fail(str(error), hint=error.hint, code=ExitCode.USAGE)
    except StoreUnavailableError as error:
        fail(str(error), hint=error.hint)


def _tell_finding(finding: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(finding))
    else:
        proof = finding["proof"].replace("-", " ")
        click.echo(f"{finding['account']}: {finding['what']}: {proof}: {finding['reason']}: {finding['message']}")


def _tell_rotation(ring: dict[str, Any]) -> None:
    for one in ring["stuck"]:
        say_error(f"{one['account']}: {one['what']}: {one['why']}")
    rotation = ring["rotation"]
    newest = f"system.{rotation['systemKey']} and storage.{rotation['storageKey']}"
    if rotation["endedAt"] is None:
        click.echo(f"ordered; {counted(ring['remaining'], 'seal')} to go")
        return
    if rotation["stuck"]:
        say_error(
            f"{counted(rotation['stuck'], 'seal')} did not open and stay as they are",
            hint="byokd keys verify says what is damaged; keep the keys that sealed it",
        )
    else:
        click.echo(f"everything is sealed under {newest}")
    if ring["free"]:
        click.echo(
            f"no longer needed: {', '.join(ring['free'])}. Backups of the database from before now still need them: "
            "take the files away, and keep a copy as long as such a backup is kept"
        )


def _sealed_by(ring: dict[str, Any], kind: str, key_id: str) -> int:
    return sum(use["keys"] + use["values"] for use in ring["uses"] if use[f"{kind}_key"] == key_id)
