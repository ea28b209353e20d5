"""Fleets of customers, each with a tenant and a vault of their own, and what befalls all of them at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import AccountId, KeyIdentifier, TenantId
from byokd.domain.vocabulary import State
from byokd.runtime.health import Component
from byokd.runtime.registrar import Action
from byokd.settings import IdentitySettings, Settings
from virtual.vaults import IDENTITY, Vault
from virtual.world import PREFIX, World, account_id

INACCESSIBLE, ACCESSIBLE = "byokd.account.inaccessible", "byokd.account.accessible"
ENGAGED, RELEASED = "byokd.service.brake-engaged", "byokd.service.brake-released"


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer with some keys in one vault, an account on each."""

    vault: Vault
    keys: list[KeyIdentifier]
    accounts: list[AccountId]


def tenant(number: int) -> TenantId:
    return TenantId(f"{number:08x}-2222-3333-4444-555555555555")


async def join(world: World, number: int, *, keys: int = 1, of_tenant: int | None = None) -> Customer:
    """Register a customer."""
    vault = world.vaults.make(f"customer{number}")
    vault.tenant = tenant(number if of_tenant is None else of_tenant)
    made = Customer(vault, [vault.create(f"key{one}") for one in range(keys)], [])
    for one, key in enumerate(made.keys):
        spec = AccountSpec(account_id(number * 100 + one), vault.tenant, "westeurope", CustomerKey(IDENTITY, key))
        vault.tag(spec.id, name=key.name)
        assert (await world.service.registrar.apply(spec)).action is Action.CREATED
        made.accounts.append(spec.id)
    return made


async def fleet(world: World, size: int) -> list[Customer]:
    """Customers who came one after the other, so that they are not looked at in step."""
    customers = []
    for number in range(1, size + 1):
        customers.append(await join(world, number))
        await asyncio.sleep(60 / size)
    return customers


def break_credential(customers: list[Customer]) -> None:
    """Our own credential: every vault denies it."""
    for customer in customers:
        customer.vault.revoke()


def mend_credential(customers: list[Customer]) -> None:
    for customer in customers:
        customer.vault.grant()


def of_service(world: World, type_: str) -> list[dict[str, Any]]:
    told = {event["id"]: event for event in world.bus._events(f"{PREFIX}/service/events") if event["type"] == type_}
    return list(told.values())


def closed(world: World, customers: list[Customer]) -> list[AccountId]:
    """Accounts of which it was ever told that they are Inaccessible."""
    accounts = [account for customer in customers for account in customer.accounts]
    return [account for account in accounts if world.told(account, INACCESSIBLE)]


async def inaccessible(world: World) -> int:
    return (await world.sql.census()).accounts[State.INACCESSIBLE]


async def held(world: World) -> int:
    return (await world.sql.brake_report(limit=0)).held


async def is_engaged(world: World) -> bool:
    return (await world.sql.brake_report(limit=0)).brake.engagement is not None


async def all_held(world: World, customers: list[Customer]) -> bool:
    return await held(world) == len(customers)


async def released(world: World) -> bool:
    return world.service.health.is_well(Component.BRAKE)


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """As `World.until`, looking once a second: a fleet takes minutes."""
    for _ in range(round(seconds)):
        if await condition():
            return
        await asyncio.sleep(1)
    raise AssertionError(f"not within {seconds} s")


def shared() -> Settings:
    """The default settings, and one identity for all customers."""
    return Settings(identities={IDENTITY: IdentitySettings(shared=True)})


def with_brake(**changes: object) -> Settings:
    settings = shared()
    return settings.model_copy(update={"brake": settings.brake.model_copy(update=changes)})


def short_hold() -> Settings:
    return with_brake(max_hold=timedelta(minutes=10))
