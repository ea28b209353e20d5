"""All examinations of a set-up, side by side, with or without a running daemon."""

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

from byokd.ports import StoreUnavailableError
from byokd.ports.examining import DaemonReport, Instruments, StoreLook
from byokd.runtime.examinations import azure, broker, plight, process, queues, stored
from byokd.runtime.examinations import identities as of_identities
from byokd.runtime.findings import Finding, examined
from byokd.settings import Settings

SECONDS = 8.0
"""For an examination."""

VAULT_SECONDS = 4.0
"""For a vault or a queue: one that is silent must not hide what the others answered."""

BUS_GRACE_SECONDS = 5.0
"""For the trial messages, beyond what connecting and the marker may take by the settings."""

MOST_BUS_SECONDS = 30.0


async def diagnose(
    settings: Settings, instruments: Instruments, report: DaemonReport | str | None, *, socket: Path, name: str
) -> Sequence[Finding]:
    """Examine everything; give the findings in the order in which things depend on one another.

    Args:
        settings: the good ones.
        instruments: what to look with.
        report: what the running daemon says; text: why it cannot be asked; None: there is none.
        socket: where it listens.
        name: of this run, unlike any other: its client id on the bus.
    """
    answers = isinstance(report, dict)
    look = await _looked(instruments)
    database = stored.examine_database(
        look, upgrade_at_start=settings.store.upgrade_at_start, daemon_answers=answers or isinstance(report, str)
    )
    keys = stored.examine_service_keys(instruments, look, proved=answers and _is_well(report, "service-keys"))
    identities = of_identities.examine_identities(
        instruments, look, configured=settings.identities, suffixes=settings.vaults.allowed_suffixes
    )
    vaults = azure.examine_vaults(instruments, look, seconds=VAULT_SECONDS)
    running = report if isinstance(report, dict) else None
    groups = await asyncio.gather(
        examined(stored.SERVICE_KEYS, keys, seconds=SECONDS),
        _broker(settings, instruments, running, name=name),
        examined(of_identities.IDENTITIES, identities, seconds=SECONDS),
        examined(azure.VAULTS, vaults, seconds=SECONDS),
        examined(queues.QUEUES, queues.examine_queues(instruments, seconds=VAULT_SECONDS), seconds=SECONDS),
    )
    manager = [] if running is None else [process.examine_service_manager(running)]
    return [
        database,
        *groups[0],
        process.examine_socket(socket),
        process.examine_daemon(report),
        *manager,
        *groups[1],
        *groups[2],
        *plight.examine_plight(look, settings=settings.brake, daemon_answers=running is not None),
        *groups[3],
        *groups[4],
    ]


async def _looked(instruments: Instruments) -> StoreLook | StoreUnavailableError:
    try:
        async with asyncio.timeout(SECONDS):
            return await stored.look_at_store(instruments)
    except TimeoutError:
        return StoreUnavailableError(f"no answer within {SECONDS:g} s", hint="see the database's host, and store.url")


def _broker(
    settings: Settings, instruments: Instruments, report: DaemonReport | None, *, name: str
) -> Awaitable[Sequence[Finding]]:
    mqtt = settings.mqtt
    if report is not None:
        return examined(broker.BROKER, _said(broker.examine_by_daemon(report)), seconds=SECONDS)
    allowed = (mqtt.connect_timeout + mqtt.marker_timeout).total_seconds() + BUS_GRACE_SECONDS
    trial = broker.examine_by_trial(instruments.bus, prefix=mqtt.topic_prefix, name=name)
    return examined(broker.BROKER, trial, seconds=min(allowed, MOST_BUS_SECONDS))


async def _said(finding: Finding) -> Sequence[Finding]:
    return [finding]


def _is_well(report: object, component: str) -> bool:
    components = report.get("components") if isinstance(report, dict) else None
    condition = components.get(component) if isinstance(components, dict) else None
    return isinstance(condition, dict) and bool(condition.get("ok"))
