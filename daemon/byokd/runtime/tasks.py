"""What a service runs from the first moment on, what once it has started, and in which order it stops."""

import asyncio
from collections.abc import Sequence

from byokd.runtime.daemon import GOODBYE, Body, Daemon, Farewell, NamedTask
from byokd.runtime.health import Component
from byokd.runtime.service import Service
from byokd.runtime.service_keys import prove_service_keys


def daemon_over(
    service: Service, stop: asyncio.Event, *, prepare: Body, always: Sequence[NamedTask], closing: Sequence[Farewell]
) -> Daemon:
    """Give the daemon over the parts of a service.

    Args:
        service: the parts.
        stop: set when it is time to stop.
        prepare: makes the store usable.
        always: what runs from the first moment on, beside what the service itself runs.
        closing: what is closed first when stopping.
    """

    async def prepared() -> None:
        await prepare()
        await prove_service_keys(service.store, service.sealer)
        service.health.show_well(Component.SERVICE_KEYS)
        await service.store.claim_vaults(service.settings.service.instance)
        await service.observer.observe()

    return Daemon(
        prepare=prepared,
        always=[*always, NamedTask("presence", service.presence.run)],
        after_start=_after_start(service),
        farewells=[*closing, *_farewells(service)],
        stop=stop,
        health=service.health,
        clock=service.clock,
        randomness=service.outside.randomness,
    )


def _after_start(service: Service) -> list[NamedTask]:
    return [
        NamedTask("publisher", service.publisher.run),
        NamedTask("follower", service.follower.run),
        NamedTask("rewrapper", service.rewrapper.run),
        NamedTask("resealer", service.resealer.run),
        NamedTask("scheduler", service.scheduler.run),
        NamedTask("brake", service.brakeman.run),
        NamedTask("plaintext", service.plaintext.run),
        NamedTask("observer", service.observer.run),
        NamedTask("own-faults", service.own_faults.run),
        NamedTask("housekeeper", service.housekeeper.run),
        NamedTask("requirements", service.requirements.run),
        NamedTask("auditing", service.auditing.run),
        NamedTask("reporter", service.reporter.run),
        *(NamedTask(f"queue-{reader.name}", reader.run) for reader in service.queue_readers),
    ]


def _farewells(service: Service) -> list[Farewell]:
    check_grace, publish_grace = service.settings.service.check_grace, service.settings.service.publish_grace

    async def end_checks() -> None:
        service.scheduler.stop()
        await service.scheduler.stopped()

    async def drain() -> None:
        await service.publisher.drain(within=publish_grace)

    return [
        *(Farewell(f"queue-{reader.name}", reader.stop, GOODBYE) for reader in service.queue_readers),
        Farewell("checks", end_checks, check_grace),
        Farewell("publish", drain, publish_grace + GOODBYE),
    ]
