"""The control API for vaults, their keys and who may use them."""

from aiohttp import web

from byokd.emulator import commands, resources, views
from byokd.emulator.control_requests import PREFIX, read_command
from byokd.emulator.documents import KeyState, VaultState
from byokd.emulator.key_operations import KeyOperations
from byokd.emulator.refusals import nothing_named
from byokd.emulator.roles import READER
from byokd.emulator.vaults import Key, Vault
from byokd.emulator.vocabulary import Curve, KeyType, Permission
from byokd.emulator.world import World


class VaultControl:
    """Handlers over the vaults of one world. Each answers with the state of what it changed."""

    def __init__(self, world: World, operations: KeyOperations) -> None:
        self._world = world
        self._operations = operations

    def routes(self) -> list[web.RouteDef]:
        """All routes of this part."""
        vault, key = f"{PREFIX}/vaults/{{vault}}", f"{PREFIX}/vaults/{{vault}}/keys/{{key}}"
        return [
            web.post(f"{PREFIX}/vaults", self.create_vault),
            web.get(vault, self.show_vault),
            web.patch(vault, self.change_vault),
            web.delete(vault, self.delete_vault),
            web.post(f"{vault}/recover", self.recover_vault),
            web.post(f"{vault}/purge", self.purge_vault),
            web.post(f"{vault}/revoke-tokens", self.revoke_tokens),
            web.post(f"{vault}/grant", self.grant),
            web.post(f"{vault}/revoke", self.revoke),
            web.post(f"{vault}/readers", self.set_reader),
            web.post(f"{vault}/keys", self.create_key),
            web.get(key, self.show_key),
            web.patch(key, self.change_key),
            web.delete(key, self.delete_key),
            web.post(f"{key}/rotate", self.rotate_key),
            web.post(f"{key}/recover", self.recover_key),
            web.post(f"{key}/purge", self.purge_key),
        ]

    async def create_vault(self, request: web.Request) -> web.Response:
        """A vault."""
        wanted = await read_command(request, commands.CreateVault)
        vault = self._world.add_vault(
            wanted.name,
            tenant_id=wanted.tenant,
            region=wanted.region,
            soft_delete_days=wanted.soft_delete_days,
            purge_protection=wanted.purge_protection,
        )
        vault.settle_seconds, vault.access = wanted.settle_seconds, wanted.access
        return self._vault(vault)

    async def show_vault(self, request: web.Request) -> web.Response:
        """One vault."""
        return self._vault(self._named(request))

    async def change_vault(self, request: web.Request) -> web.Response:
        """Whatever is given. Purge protection, soft-delete and region too, which in Azure only a new vault changes."""
        vault, change = self._named(request), await read_command(request, commands.ChangeVault)
        moved = change.access not in (None, vault.access)
        vault.network = vault.network if change.network is None else change.network
        vault.access = vault.access if change.access is None else change.access
        vault.tenant_id = vault.tenant_id if change.tenant is None else self._world.tenant(change.tenant)
        vault.region = vault.region if change.region is None else change.region
        vault.soft_delete = vault.soft_delete if change.soft_delete is None else change.soft_delete
        vault.purge_protection = vault.purge_protection if change.purge_protection is None else change.purge_protection
        vault.settle_seconds = vault.settle_seconds if change.settle_seconds is None else change.settle_seconds
        if change.model_fields_set - {"settle_seconds"}:
            resources.vault_written(self._world, vault)
        if moved:
            self._world.witness.access_policy_changed(vault)
        return self._vault(vault)

    async def delete_vault(self, request: web.Request) -> web.Response:
        """Soft-delete."""
        vault = self._world.delete_vault(request.match_info["vault"])
        resources.vault_deleted(self._world, vault)
        return self._vault(vault)

    async def recover_vault(self, request: web.Request) -> web.Response:
        """Undo a deletion."""
        vault = self._world.recover_vault(request.match_info["vault"])
        resources.vault_written(self._world, vault)
        return self._vault(vault)

    async def purge_vault(self, request: web.Request) -> web.Response:
        """For ever."""
        vault = self._named(request)
        self._world.purge_vault(vault.name)
        resources.vault_purged(self._world, vault)
        return web.json_response({})

    async def revoke_tokens(self, request: web.Request) -> web.Response:
        """From now on this vault wants tokens newer than all that were issued (continuous access evaluation)."""
        vault = self._named(request)
        vault.tokens_from = self._world.last_token + 1
        return self._vault(vault)

    async def grant(self, request: web.Request) -> web.Response:
        """Give permissions."""
        name, given = request.match_info["vault"], await read_command(request, commands.Grant)
        permissions: tuple[Permission, ...] = given.permissions
        vault = self._world.grant(name, given.principal, permissions, key=given.key, delay=given.delay_seconds)
        resources.access_given(self._world, vault, self._world.object_id(given.principal, vault), given.key)
        return self._vault(vault)

    async def revoke(self, request: web.Request) -> web.Response:
        """Take permissions away."""
        name, taken = request.match_info["vault"], await read_command(request, commands.Revoke)
        permissions: tuple[Permission, ...] = taken.permissions
        vault = self._world.revoke(name, taken.principal, permissions, key=taken.key, delay=taken.delay_seconds)
        resources.access_taken(self._world, vault, self._world.object_id(taken.principal, vault), taken.key)
        return self._vault(vault)

    async def set_reader(self, request: web.Request) -> web.Response:
        """Let a principal read the vault at ARM, or not any more."""
        vault, wanted = self._named(request), await read_command(request, commands.SetReader)
        object_id = self._world.object_id(wanted.principal, vault)
        there = self._world.roles.like(vault.arm_id, object_id, READER)
        if wanted.present and there is None:
            resources.role_changed(self._world, self._world.assign(vault.arm_id, object_id, READER), change="write")
        elif there is not None and not wanted.present:
            self._world.unassign(there)
            resources.role_changed(self._world, there, change="delete")
        return self._vault(vault)

    async def create_key(self, request: web.Request) -> web.Response:
        """A key, or a new version of it."""
        vault, wanted = self._named(request), await read_command(request, commands.CreateKey)
        kty: KeyType = wanted.type or KeyType.RSA
        material = await self._operations.make(kty, size=wanted.size, curve=wanted.curve)
        self._world.add_version(vault, wanted.name, kty=kty, material=material, attributes=wanted.attributes())
        return _key(vault, vault.keys[wanted.name.lower()])

    async def rotate_key(self, request: web.Request) -> web.Response:
        """A new version, like the newest but for what is given."""
        vault, key, wanted = *self._named_key(request), await read_command(request, commands.RotateKey)
        last = key.newest
        if wanted.type is None and wanted.size is None and wanted.curve is None:
            await self._operations.renew(vault, key, wanted.attributes(last.key_ops))
            return _key(vault, key)
        kty: KeyType = wanted.type or last.kty
        curve: Curve | None = wanted.curve
        material = await self._operations.make(kty, size=wanted.size, curve=curve)
        attributes = wanted.attributes(last.key_ops if kty is last.kty else None)
        self._world.add_version(vault, key.name, kty=kty, material=material, attributes=attributes)
        return _key(vault, key)

    async def show_key(self, request: web.Request) -> web.Response:
        """One key."""
        return _key(*self._named_key(request))

    async def change_key(self, request: web.Request) -> web.Response:
        """Attributes of one version or all."""
        vault, key, change = *self._named_key(request), await read_command(request, commands.ChangeKey)
        chosen = {"newest": [key.newest], "all": key.versions}.get(change.version)
        if chosen is None:
            chosen = [one for one in key.versions if one.id == change.version]
        if not chosen:
            raise nothing_named("version", change.version, known="`byokd emulator key list`")
        for version in chosen:
            for field in change.model_fields_set - {"version"}:
                setattr(version, field, getattr(change, field))
            version.updated = int(self._world.clock())
        self._world.witness.attributes_changed(vault, key)
        return _key(vault, key)

    async def delete_key(self, request: web.Request) -> web.Response:
        """Soft-delete."""
        vault = self._named(request)
        return _key(vault, vault.delete_key(request.match_info["key"], self._world.clock()))

    async def recover_key(self, request: web.Request) -> web.Response:
        """Undo a deletion."""
        vault = self._named(request)
        return _key(vault, vault.recover_key(request.match_info["key"], self._world.clock()))

    async def purge_key(self, request: web.Request) -> web.Response:
        """For ever."""
        self._named(request).purge_key(request.match_info["key"], self._world.clock())
        return web.json_response({})

    def _named(self, request: web.Request) -> Vault:
        return self._world.vault(request.match_info["vault"])

    def _named_key(self, request: web.Request) -> tuple[Vault, Key]:
        vault, name = self._named(request), request.match_info["key"]
        key = vault.keys.get(name.lower())
        if key is None:
            raise nothing_named("key", name, known="`byokd emulator key list`")
        return vault, key

    def _vault(self, vault: Vault) -> web.Response:
        document: VaultState = views.vault_state(self._world, vault)
        return web.json_response(document)


def _key(vault: Vault, key: Key) -> web.Response:
    document: KeyState = views.key_state(vault, key)
    return web.json_response(document)
