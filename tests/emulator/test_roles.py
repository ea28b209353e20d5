"""Roles: assigned at ARM or by the control API, at a vault, one of its keys or above it, and what follows from them."""

import uuid
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys.aio import KeyClient

from byokd.emulator import ControlError, Emulator, Permission
from byokd.emulator.role_assignments import is_within
from byokd.emulator.roles import ROLES, role_named
from byokd.emulator.vocabulary import Access
from byokd.emulator.world import SUBSCRIPTION
from emulator.support import KEY, VAULT, Clock, Seen, Wire
from emulator.test_cli import byokd

ENCRYPTION_USER = "Key Vault Crypto Service Encryption User"
GROUP_SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/emulator"
VAULT_SCOPE = f"{GROUP_SCOPE}/providers/Microsoft.KeyVault/vaults/{VAULT}"
DEFINITIONS = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
SCOPES = {
    "subscription": f"/subscriptions/{SUBSCRIPTION}",
    "group": GROUP_SCOPE,
    "vault": VAULT_SCOPE,
    "key": f"{VAULT_SCOPE}/keys/{KEY}",
}
OTHER_TENANT = str(uuid.UUID(int=7))


class Arm:
    """Bare HTTP to ARM as the system-assigned identity."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession, token: str) -> None:
        self.emulator = emulator
        self._session = session
        self._token = token

    async def send(self, method: str, path: str, body: object = None, **query: str) -> Seen:
        url = f"https://management.azure.com{path}"
        headers = {"Authorization": f"Bearer {self._token}"}
        parameters = {"api-version": "2022-04-01", **query}
        async with self._session.request(method, url, json=body, headers=headers, params=parameters) as response:
            text = await response.text()
            return Seen(response.status, response.headers, await response.json() if text else None)

    async def put(self, scope: str, role: str, object_id: str, *, name: str | None = None, **more: str) -> Seen:
        found = role_named(role)
        role_id = f"{DEFINITIONS}/{found.id if found else role}"
        body = {"properties": {"roleDefinitionId": role_id, "principalId": object_id, **more}}
        return await self.send("PUT", place(scope, name or str(uuid.uuid4())), body)

    async def principal(self, name: str = "system") -> str:
        state = await self.emulator.control.state()
        return next(one["object_id"] for one in state["principals"] if one["name"] == name)


def place(scope: str, name: str = "") -> str:
    return f"{scope}/providers/Microsoft.Authorization/roleAssignments" + (f"/{name}" if name else "")


@pytest.fixture
async def bare(emulator: Emulator) -> Emulator:
    """A vault with one key, closed to everyone."""
    await emulator.control.create_vault(VAULT)
    await emulator.control.create_key(VAULT, KEY)
    return emulator


@pytest.fixture
async def arm(bare: Emulator, session: aiohttp.ClientSession, wire: Wire) -> Arm:
    token = await wire.sign_in(resource="https://management.azure.com")
    await wire.sign_in()
    return Arm(bare, session, token)


@pytest.fixture
async def owner(arm: Arm) -> Arm:
    await arm.emulator.control.assign_role(VAULT, "Owner", at="subscription")
    return arm


async def status(wire: Wire) -> int:
    return (await wire.send("GET", f"/keys/{KEY}")).status


@pytest.mark.parametrize("where", SCOPES)
async def test_a_role_is_made_read_listed_and_deleted_at_arm_and_vaults_go_by_it(
    owner: Arm, wire: Wire, where: str
) -> None:
    scope, name, who = SCOPES[where], str(uuid.uuid4()), await owner.principal()
    assert await status(wire) == 403
    made = await owner.put(scope, ENCRYPTION_USER, who, name=name)
    assert made.status == 201
    properties = made.body["properties"]
    assert (properties["scope"], properties["principalId"]) == (scope, who)
    assert properties["roleDefinitionId"].endswith("e147488a-f6f5-4113-8e2d-b22465e65bf6")
    assert (made.body["id"], made.body["name"]) == (place(scope, name), name)
    assert await status(wire) == 200
    assert (await owner.send("GET", place(scope, name).upper())).body == made.body, "names have no case"
    listed = await owner.send("GET", place(scope), **{"$filter": f"principalId eq '{who}'"})
    assert made.body in listed.body["value"]
    gone = await owner.send("DELETE", place(scope, name))
    assert (gone.status, gone.body["id"]) == (200, made.body["id"])
    assert await status(wire) == 403
    assert (await owner.send("DELETE", place(scope, name))).status == 204
    missing = await owner.send("GET", place(scope, name))
    assert (missing.status, missing.body["error"]["code"]) == (404, "RoleAssignmentNotFound")


async def test_lists_tell_what_is_at_above_and_below_and_filters_narrow_them(owner: Arm) -> None:
    who = await owner.principal()
    for scope in SCOPES.values():
        await owner.put(scope, "Reader", who)

    async def scopes(scope: str, **query: str) -> list[str]:
        seen = await owner.send("GET", place(scope), **query)
        readers = [one for one in seen.body["value"] if one["properties"]["roleDefinitionId"].endswith("f606fba81ae7")]
        return [one["properties"]["scope"] for one in readers]

    assert await scopes(GROUP_SCOPE) == list(SCOPES.values())
    assert await scopes(GROUP_SCOPE, **{"$filter": "atScope()"}) == [SCOPES["subscription"], SCOPES["group"]]
    nobody = f"atScope() and assignedTo('{uuid.UUID(int=9)}')"
    assert await scopes(VAULT_SCOPE, **{"$filter": nobody}) == []
    refused = await owner.send("GET", place(GROUP_SCOPE), **{"$filter": "nonsense"})
    assert refused.status == 400


async def test_what_cannot_be_assigned_is_refused_in_arms_words(owner: Arm) -> None:
    who, name = await owner.principal(), str(uuid.uuid4())
    assert (await owner.put(VAULT_SCOPE, "Reader", who, name=name)).status == 201
    assert (await owner.put(VAULT_SCOPE, "Reader", who, name=name)).status == 200, "the same again"

    async def code(*words: str, **more: Any) -> tuple[int, str]:  # noqa: ANN401 - as `put` takes them
        seen = await owner.put(VAULT_SCOPE, *words, **more)
        return seen.status, seen.body["error"]["code"]

    assert await code("Reader", who) == (409, "RoleAssignmentExists")
    assert await code("Contributor", who, name=name) == (400, "RoleAssignmentUpdateNotPermitted")
    assert await code(str(uuid.UUID(int=3)), who) == (404, "RoleDefinitionDoesNotExist")
    assert await code("Reader", str(uuid.UUID(int=4))) == (400, "PrincipalNotFound")
    unknown = await owner.put(VAULT_SCOPE, "Reader", str(uuid.UUID(int=4)), principalType="ServicePrincipal")
    assert unknown.status == 201, "whoever says what kind it is, is believed"


async def test_no_role_is_assigned_at_a_vault_that_is_not_there(owner: Arm) -> None:
    who = await owner.principal()
    elsewhere = f"/subscriptions/{uuid.UUID(int=6)}/resourceGroups/emulator"
    await owner.emulator.control.delete_vault(VAULT)
    for scope in (f"{VAULT_SCOPE}2", VAULT_SCOPE, SCOPES["key"]):
        seen = await owner.put(scope, "Reader", who)
        assert (seen.status, seen.body["error"]["code"]) == (404, "ResourceNotFound")
    assert (await owner.put(VAULT_SCOPE.replace(GROUP_SCOPE, elsewhere), "Reader", who)).status == 403


@pytest.mark.parametrize("role", ["Contributor", "Reader", "Key Vault Crypto Officer", None])
async def test_only_an_owner_assigns_roles_and_only_readers_see_them(arm: Arm, role: str | None) -> None:
    if role is not None:
        await arm.emulator.control.assign_role(VAULT, role)
    who, name = await arm.principal(), str(uuid.uuid4())
    for seen in (await arm.put(VAULT_SCOPE, "Owner", who), await arm.send("DELETE", place(VAULT_SCOPE, name))):
        assert (seen.status, seen.body["error"]["code"]) == (403, "AuthorizationFailed")
    assert (await arm.send("GET", place(VAULT_SCOPE))).status == (403 if role is None else 200)


async def test_a_token_of_another_tenant_assigns_nothing(owner: Arm) -> None:
    await owner.emulator.control.change_vault(VAULT, tenant=OTHER_TENANT)
    seen = await owner.put(VAULT_SCOPE, "Reader", await owner.principal())
    assert seen.status == 403
    assert (await owner.send("GET", VAULT_SCOPE)).status == 403


async def test_definitions_tell_what_roles_allow(owner: Arm) -> None:
    listed = (await owner.send("GET", DEFINITIONS)).body["value"]
    assert [one["properties"]["roleName"] for one in listed] == [role.name for role in ROLES]
    (one,) = (await owner.send("GET", DEFINITIONS, **{"$filter": f"roleName eq '{ENCRYPTION_USER}'"})).body["value"]
    assert one["properties"]["permissions"][0]["dataActions"] == [
        "Microsoft.KeyVault/vaults/keys/read",
        "Microsoft.KeyVault/vaults/keys/wrap/action",
        "Microsoft.KeyVault/vaults/keys/unwrap/action",
    ]
    assert (await owner.send("GET", f"{DEFINITIONS}/{one['name']}")).body == one
    assert (await owner.send("GET", f"{DEFINITIONS}/{uuid.UUID(int=5)}")).status == 404
    everywhere = await owner.send("GET", "/providers/Microsoft.Authorization/roleDefinitions")
    assert everywhere.status == 200
    assert (await owner.send("GET", "/providers/Microsoft.Authorization/roleAssignments")).status == 403


EVERY = set(Permission)
READING = {Permission.GET, Permission.LIST}
ALLOWED = {
    "Owner": (set(), True),
    "Contributor": (set(), True),
    "Reader": (set(), True),
    "Key Vault Reader": (READING, True),
    "Key Vault Crypto Service Encryption User": ({*READING, Permission.WRAP_KEY, Permission.UNWRAP_KEY}, False),
    "Key Vault Crypto User": ({*READING, Permission.UPDATE, Permission.WRAP_KEY, Permission.UNWRAP_KEY}, False),
    "Key Vault Crypto Officer": (EVERY, True),
}


@pytest.mark.parametrize("role", ALLOWED)
async def test_each_role_allows_what_azure_says_of_keys_and_of_reading_the_vault(arm: Arm, role: str) -> None:
    emulator, who = arm.emulator, await arm.principal()
    await emulator.control.assign_role(VAULT, role, at="group")
    permissions, reads = ALLOWED[role]
    vault = emulator.world.vault(VAULT)
    assert {one for one in Permission if emulator.world.allows(vault, who, one, KEY)} == permissions
    assert (await arm.send("GET", VAULT_SCOPE)).status == (200 if reads else 403)


async def test_the_sdk_gets_in_by_a_role_of_the_resource_group_and_is_out_without_it(
    vault: Emulator, keys: KeyClient
) -> None:
    await vault.control.revoke(VAULT)
    await vault.control.assign_role(VAULT, ENCRYPTION_USER, at="group")
    assert (await keys.get_key(KEY)).name == KEY
    await vault.control.remove_role(VAULT, ENCRYPTION_USER, at="group")
    with pytest.raises(HttpResponseError) as refused:
        await keys.get_key(KEY)
    assert refused.value.error is not None
    assert refused.value.error.innererror == {"code": "ForbiddenByRbac"}


async def test_a_role_reaches_what_is_below_its_scope_and_nothing_beside_it(bare: Emulator, wire: Wire) -> None:
    await bare.control.create_key(VAULT, f"{KEY}2")
    await bare.control.create_vault(f"{VAULT}2")
    await bare.control.create_key(f"{VAULT}2", KEY)

    async def reached() -> list[int]:
        asked = [(KEY, VAULT), (f"{KEY}2", VAULT), (KEY, f"{VAULT}2")]
        return [(await wire.send("GET", f"/keys/{key}", vault=vault)).status for key, vault in asked]

    await bare.control.assign_role(VAULT, ENCRYPTION_USER, key=KEY)
    assert await reached() == [200, 403, 403]
    await bare.control.assign_role(VAULT, ENCRYPTION_USER)
    assert await reached() == [200, 200, 403]
    await bare.control.assign_role(VAULT, ENCRYPTION_USER, at="subscription")
    assert await reached() == [200, 200, 200]


async def test_changes_are_known_to_vaults_after_their_delay_and_to_arms_lists_at_once(
    owner: Arm, wire: Wire, clock: Clock
) -> None:
    who, name = await owner.principal(), str(uuid.uuid4())
    await owner.emulator.control.set_role_delay(84)
    await owner.put(GROUP_SCOPE, ENCRYPTION_USER, who, name=name)
    assert (await owner.send("GET", place(GROUP_SCOPE, name))).status == 200
    clock.advance(83)
    assert await status(wire) == 403
    clock.advance(1)
    assert await status(wire) == 200
    await owner.emulator.control.set_role_delay(21)
    await owner.send("DELETE", place(GROUP_SCOPE, name))
    assert (await owner.send("GET", place(GROUP_SCOPE, name))).status == 404
    clock.advance(20)
    assert await status(wire) == 200
    clock.advance(1)
    assert await status(wire) == 403
    assert (await owner.emulator.control.state())["role_delay_seconds"] == 21


async def test_a_vault_that_goes_by_access_policies_heeds_no_role(bare: Emulator, wire: Wire) -> None:
    await bare.control.assign_role(VAULT, "Key Vault Crypto Officer", at="subscription")
    assert await status(wire) == 200
    await bare.control.change_vault(VAULT, access=Access.POLICIES)
    seen = await wire.send("GET", f"/keys/{KEY}")
    assert (seen.status, seen.codes) == (403, ("Forbidden", "AccessDenied"))


async def test_a_vault_made_anew_has_no_role_of_the_one_before(bare: Emulator, wire: Wire) -> None:
    await bare.control.assign_role(VAULT, ENCRYPTION_USER)
    await bare.control.delete_vault(VAULT)
    await bare.control.purge_vault(VAULT)
    await bare.control.create_vault(VAULT)
    await bare.control.create_key(VAULT, KEY)
    assert await bare.control.roles(VAULT) == []
    assert await status(wire) == 403


async def test_of_roles_at_a_vault_event_grid_is_told_and_of_those_above_it_is_not(owner: Arm) -> None:
    told: list[tuple[str, str]] = []
    owner.emulator.world.witness.resource_changed = lambda _, *what: told.append(what)  # type: ignore[method-assign]
    who, name = await owner.principal(), str(uuid.uuid4())
    for scope in (GROUP_SCOPE, VAULT_SCOPE):
        await owner.put(scope, "Reader", who, name=name)
        await owner.send("DELETE", place(scope, name))
    kind = "Microsoft.Authorization/roleAssignments"
    assert told == [(f"{kind}/write", place(VAULT_SCOPE, name)), (f"{kind}/delete", place(VAULT_SCOPE, name))]


async def test_verbs_assign_list_and_remove(bare: Emulator) -> None:
    steps = (
        ("role", "assign", VAULT, ENCRYPTION_USER, "--at", "group"),
        ("role", "assign", VAULT, "acdd72a7-3385-48ef-bd42-f606fba81ae7", "--delay", "5"),
        ("role", "assign", VAULT, "owner", "--at", "subscription"),
        ("role", "remove", VAULT, "Owner", "--at", "subscription"),
    )
    for step in steps:
        ran = await byokd(bare, *step)
        assert ran.exit_code == 0, ran.output
    listed = await byokd(bare, "role", "list", VAULT)
    assert listed.output.splitlines() == [
        f"{ENCRYPTION_USER}: system at {GROUP_SCOPE}",
        f"Reader: system at {VAULT_SCOPE}",
    ]
    again = await byokd(bare, *steps[-1])
    assert (again.exit_code, "does not have the role Owner" in again.stderr) == (1, True)
    assert (await byokd(bare, "role", "assign", VAULT, "King")).exit_code == 1
    with pytest.raises(ControlError):
        await bare.control.assign_role(VAULT, "Reader", at="group", key=KEY)


@pytest.mark.parametrize(
    ("resource", "scope", "within"), [("/a/b", "/A", True), ("/ab", "/a", False), ("/a", "/a/b", False)]
)
def test_a_scope_ends_where_a_name_ends(resource: str, scope: str, within: bool) -> None:  # noqa: FBT001 - drawn
    assert is_within(resource, scope) is within
