"""Two customers, their identities and vaults; applying accounts, and what that writes."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from byokd.adapters.sql.tables import account_keys, accounts, events, identity_claims, vaults, watches
from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import IdentityName, KeyIdentifier, TenantId
from byokd.runtime.applying import apply_all
from byokd.runtime.registrar import Action, Result
from byokd.settings import IdentitySettings, Settings
from virtual.vaults import IDENTITY, OPERATIONS, TENANT, Vault
from virtual.world import World, account_id

OTHERS = TenantId("99999999-2222-3333-4444-555555555555")
CLIENT = "c11e0000-0000-0000-0000-000000000000"
SPARE, SHARED = IdentityName("spare"), IdentityName("shared")
IDENTITIES: Mapping[str, IdentitySettings] = {
    IDENTITY: IdentitySettings(client_id=CLIENT),
    SPARE: IdentitySettings(client_id="5ba6e000-0000-0000-0000-000000000000"),
    SHARED: IdentitySettings(shared=True),
}
SETTINGS = Settings(identities=IDENTITIES)


def spec_with(
    number: int, key: KeyIdentifier | None, identity: IdentityName = IDENTITY, tenant: TenantId = TENANT
) -> AccountSpec:
    if key is None:
        return AccountSpec(account_id(number), tenant, "westeurope", None, identity)
    return AccountSpec(account_id(number), tenant, "westeurope", CustomerKey(identity, key))


def vault_of(world: World, name: str, tenant: TenantId = TENANT) -> tuple[Vault, KeyIdentifier]:
    """A vault that lets every identity in: what keeps customers apart must not hang on their care."""
    vault, key = world.one_vault(name)
    vault.tenant = tenant
    vault.grants = dict.fromkeys((IDENTITY, SPARE, SHARED), OPERATIONS)
    return vault, key


async def apply(world: World, *specs: AccountSpec) -> list[Result]:
    wait = world.settings.registration.wait_for_grant
    return await apply_all(world.service.registrar, specs, clock=world.clock, wait_for_grant=wait)


async def contents(world: World) -> Any:  # noqa: ANN401 - rows
    """All that a registration writes, and no check or publication."""
    kept = [
        accounts.c["id", "tenant", "location", "generation", "watch", "attached_identity"],
        account_keys.c,
        watches.c["id", "identity", "tenant", "host", "key_name", "pinned"],
        identity_claims.c,
        [vaults.c.host],
    ]
    told = select(events.c.id).where(events.c.type.in_(["byokd.account.created", "byokd.account.updated"]))
    return await world.sql._runner.read(
        lambda connection: (
            [sorted(map(str, connection.execute(select(*columns)))) for columns in kept]
            + [sorted(connection.scalars(told))]
        )
    )


async def refused(world: World, spec: AccountSpec) -> Result:
    """Apply what must be refused, with nothing changed."""
    before = await contents(world)
    (result,) = await apply(world, spec)
    assert result.action is Action.REFUSED, result
    assert await contents(world) == before
    return result


def told(result: Result) -> str:
    return " ".join((result.message, result.hint, *result.warnings, *result.commands))
