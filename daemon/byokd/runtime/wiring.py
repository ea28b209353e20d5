"""Fills the ports with adapters. Beside `offline_wiring`, the only module of the runtime that imports them."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

from byokd.adapters.arm.registry import ArmRegistry
from byokd.adapters.eventgrid.queue import AzureEventQueue
from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.identity.deliveries import EntraDeliveryTokens
from byokd.adapters.identity.sources import NOBODY
from byokd.adapters.identity.trial import CredentialsTrial
from byokd.adapters.keyvault.dates import VaultDates
from byokd.adapters.keyvault.greeting import AzureVaultGreeter
from byokd.adapters.keyvault.names import VaultNames
from byokd.adapters.keyvault.service import Bystanders, lean_service, sdk_service
from byokd.adapters.keyvault.transport import Outbound, azure_transport, shrink_tls_buffers
from byokd.adapters.mqtt.bus import MqttBus
from byokd.adapters.sealing.account_cipher import HkdfAccountCipher
from byokd.adapters.sealing.auditor import HmacAuditor
from byokd.adapters.sealing.key_files import FileServiceKeys
from byokd.adapters.sealing.place import key_directory
from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.adapters.sql.inspection import inspect_store
from byokd.adapters.sql.opening import store_for
from byokd.adapters.sql.read_only import read_only_store
from byokd.adapters.sql.store import SqlStore
from byokd.adapters.systemd.notifier import SystemdNotifier
from byokd.domain.identifiers import TenantId
from byokd.ports import Clock, KeyService, VaultRegistry
from byokd.ports.deliveries import DeliveryTokens
from byokd.ports.examining import Instruments
from byokd.ports.queues import EventQueue
from byokd.runtime.clock import SystemClock, SystemRandomness, UuidIds
from byokd.runtime.layers import Layers
from byokd.runtime.metrics import Metrics
from byokd.runtime.outside import Outside
from byokd.runtime.own_faults import VaultTimes
from byokd.runtime.rationing import Priority, Rations
from byokd.runtime.service import Service
from byokd.runtime.service_keys import refuse_other_keys
from byokd.runtime.verifying import Verifier
from byokd.settings import Settings


@dataclass(frozen=True, slots=True)
class Wired:
    """A service over the real outside, the store that is still to be prepared, and the ways to the vaults.

    `ways` is closed by whoever replaces them, or with everything else.
    """

    service: Service
    store: SqlStore
    ways: AsyncExitStack


async def wire(settings: Settings, stack: AsyncExitStack) -> Wired:
    """Fill the ports with the real adapters; what must be closed is left to `stack`. Nothing is contacted yet.

    Raises:
        ServiceKeysUnusableError: the service's own keys are missing, unsafe or malformed.
    """
    shrink_tls_buffers()
    clock, randomness, ids = SystemClock(), SystemRandomness(), UuidIds()
    service_keys = FileServiceKeys(key_directory(settings.service_keys, os.environ))
    sealer = AesGcmSealer(service_keys, randomness)
    store = store_for(settings.store, ids=ids, auditor=HmacAuditor(service_keys))
    stack.push_async_callback(store.close)
    ways = await stack.enter_async_context(AsyncExitStack())
    times = VaultTimes()
    ways_out = await _ways_out(settings, ways, clock, times)
    outside = Outside(
        store=store,
        sealer=sealer,
        cipher=HkdfAccountCipher(randomness),
        bus=MqttBus(settings.mqtt),
        clock=clock,
        randomness=randomness,
        ids=ids,
        manager=SystemdNotifier(os.environ),
        vault_times=times,
        **ways_out,
    )
    return Wired(Service(settings, outside), store, ways)


async def rewire(settings: Settings, ways: AsyncExitStack, before: Service) -> Service:
    """Give a service with other settings over the store and the service keys of the one that runs.

    The ways to vaults, identities and bus are new ones, and the files that the settings name are read again; what of
    that must be closed is left to `ways`.

    Raises:
        OSError: a file that the settings name cannot be used.
    """
    times, bus = VaultTimes(), MqttBus(settings.mqtt)
    ways_out = await _ways_out(settings, ways, before.clock, times)
    outside = replace(before.outside, bus=bus, vault_times=times, **ways_out)
    return Service(settings, outside, before=before)


class _WaysOut(TypedDict):
    """The ports through which requests go out."""

    probe_keys: KeyService
    keys: KeyService
    fresh_keys: KeyService
    registry: VaultRegistry
    delivery_tokens: DeliveryTokens
    event_queues: Mapping[str, EventQueue]


async def _ways_out(settings: Settings, ways: AsyncExitStack, clock: Clock, times: VaultTimes) -> _WaysOut:
    """Open the ways to vaults and identities, for looks, for changes and for confirmations, to ARM, and to Entra ID."""
    outbound = await ways.enter_async_context(Outbound(settings.vaults, settings.network))
    credentials = Credentials(settings.identities, outbound.tokens, clock=clock)
    ways.push_async_callback(credentials.close)
    bystanders = Bystanders(VaultNames(settings.network, clock), VaultDates(clock, times.tell))
    return {
        "probe_keys": lean_service(outbound.kept, credentials, vaults=settings.vaults, bystanders=bystanders),
        "keys": sdk_service(outbound.kept, credentials, vaults=settings.vaults, bystanders=bystanders),
        "fresh_keys": sdk_service(outbound.fresh, credentials, vaults=settings.vaults, bystanders=bystanders),
        "registry": ArmRegistry(azure_transport(outbound.kept), credentials, settings.arm, clock),
        "delivery_tokens": EntraDeliveryTokens(outbound.tokens, clock),
        "event_queues": _event_queues(settings, outbound, credentials),
    }


def _event_queues(settings: Settings, outbound: Outbound, credentials: Credentials) -> Mapping[str, EventQueue]:
    """Give the queues of Event Grid by the names of their sources."""
    queues: dict[str, EventQueue] = {}
    for name, source in settings.event_grid.queues.items():
        tenant = TenantId(source.tenant or settings.identities[source.identity or ""].tenant or NOBODY)
        queues[name] = AzureEventQueue(source, outbound.queues, credentials, tenant=tenant)
    return queues


async def wire_verifier(settings: Settings, stack: AsyncExitStack, *, vaults: bool) -> Verifier:
    """Fill the ports that verification needs, of which the store is only read; with or without the vaults.

    Raises:
        ServiceKeysUnusableError: the service's own keys are missing, unsafe, malformed or others than this database's.
        StoreUnavailableError: the database cannot be read, or its schema is not this version's.
    """
    clock, randomness = SystemClock(), SystemRandomness()
    sealer = AesGcmSealer(FileServiceKeys(key_directory(settings.service_keys, os.environ)), randomness)
    store = read_only_store(settings.store)
    await refuse_other_keys(store, sealer)
    keys: KeyService | None = None
    if vaults:
        keys = (await _ways_out(settings, stack, clock, VaultTimes()))["keys"]
        # A process of its own: it spends its share beside what a running daemon spends.
        rations = Rations(settings.vaults.quota_share, clock=clock, metrics=Metrics())
        keys = rations.of(keys, Priority.VERIFICATION)
    return Verifier(
        store,
        Layers(sealer, HkdfAccountCipher(randomness)),
        keys,
        clock=clock,
        deadline=settings.rewrap.deadline,
        concurrency=settings.service_keys.verify_concurrency,
    )


async def wire_instruments(settings: Settings, stack: AsyncExitStack) -> Instruments:
    """Give what `byokd doctor` looks with; nothing is contacted or read yet but `network.ca_file`."""
    clock = SystemClock()
    outbound = await stack.enter_async_context(Outbound(settings.vaults, settings.network))
    credentials = Credentials(settings.identities, outbound.tokens, clock=clock)
    stack.push_async_callback(credentials.close)
    return Instruments(
        clock=clock,
        look_at_store=partial(inspect_store, settings.store),
        service_keys=lambda: AesGcmSealer(
            FileServiceKeys(key_directory(settings.service_keys, os.environ)), SystemRandomness()
        ),
        sealed_store=partial(read_only_store, settings.store),
        bus=MqttBus(settings.mqtt),
        tokens=CredentialsTrial(credentials, settings, os.environ),
        vaults=AzureVaultGreeter(outbound.fresh, clock),
        queues=_event_queues(settings, outbound, credentials),
    )
