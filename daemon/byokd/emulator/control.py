"""The control API for everything but vaults: who there is, bad luck, settings, and what was asked."""

from aiohttp import web

from byokd.emulator import commands, views
from byokd.emulator.control_requests import PREFIX, read_command
from byokd.emulator.refusals import WorldError, nothing_named
from byokd.emulator.vocabulary import ALL_VAULTS, ARM, ENTRA, EVENT_GRID, MANAGED_IDENTITY, FaultKind, PrincipalKind
from byokd.emulator.world import World


class Control:
    """Handlers over one world. Each answers with the state of what it changed."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """All routes of this part."""
        return [
            web.get(f"{PREFIX}/state", self.state),
            web.patch(f"{PREFIX}/settings", self.change_settings),
            web.get(f"{PREFIX}/calls", self.calls),
            web.post(f"{PREFIX}/calls/reset", self.reset_calls),
            web.post(f"{PREFIX}/identities", self.create_identity),
            web.patch(f"{PREFIX}/identities/{{principal}}", self.change_identity),
            web.post(f"{PREFIX}/applications", self.create_application),
            web.patch(f"{PREFIX}/applications/{{principal}}", self.change_application),
            web.delete(f"{PREFIX}/principals/{{principal}}", self.delete_principal),
            web.patch(f"{PREFIX}/tenants/{{tenant}}", self.change_tenant),
            web.post(f"{PREFIX}/faults", self.set_fault),
            web.delete(f"{PREFIX}/faults", self.clear_faults),
            web.delete(f"{PREFIX}/faults/{{fault}}", self.clear_faults),
        ]

    async def state(self, _: web.Request) -> web.Response:
        """Everything that may be seen."""
        return web.json_response(views.world_state(self._world))

    async def change_settings(self, request: web.Request) -> web.Response:
        """Lifetimes of tokens, delay of roles, and dialects."""
        change = await read_command(request, commands.ChangeSettings)
        if change.application_token_seconds is not None:
            self._world.application_token_seconds = change.application_token_seconds
        if change.identity_token_seconds is not None:
            self._world.identity_token_seconds = change.identity_token_seconds
        if change.role_delay_seconds is not None:
            self._world.role_delay_seconds = change.role_delay_seconds
        for dialect, spoken in change.dialects.items():
            (self._world.dialects.add if spoken else self._world.dialects.discard)(dialect)
        return await self.state(request)

    async def calls(self, _: web.Request) -> web.Response:
        """Counters of what was asked."""
        return web.json_response(self._world.calls.listing())

    async def reset_calls(self, _: web.Request) -> web.Response:
        """Count anew; answers with the counters as they were."""
        counted = self._world.calls.listing()
        self._world.calls.reset()
        return web.json_response(counted)

    async def create_identity(self, request: web.Request) -> web.Response:
        """A managed identity."""
        wanted = await read_command(request, commands.CreateIdentity)
        principal = self._world.add_principal(wanted.name, wanted.kind, tenant_id=wanted.tenant)
        return web.json_response(views.principal_state(principal))

    async def change_identity(self, request: web.Request) -> web.Response:
        """Take a managed identity away from the machine, or give it back."""
        change = await read_command(request, commands.ChangeIdentity)
        principal = self._world.attach(request.match_info["principal"], attached=change.attached)
        return web.json_response(views.principal_state(principal))

    async def create_application(self, request: web.Request) -> web.Response:
        """An application."""
        wanted = await read_command(request, commands.CreateApplication)
        principal = self._world.add_principal(
            wanted.name,
            PrincipalKind.APPLICATION,
            tenant_id=wanted.tenant,
            client_id=wanted.client_id,
            credentials=wanted.credentials(),
        )
        for tenant in wanted.consented:
            self._world.consent(wanted.name, tenant, given=True)
        return web.json_response(views.principal_state(principal))

    async def change_application(self, request: web.Request) -> web.Response:
        """Disable it, everywhere or in a tenant, let it into a tenant or throw it out."""
        name, change = request.match_info["principal"], await read_command(request, commands.ChangeApplication)
        principal = self._world.principal(name)
        principal.disabled = principal.disabled if change.disabled is None else change.disabled
        if change.consent is not None:
            self._world.consent(name, change.consent, given=True)
        if change.withdraw is not None:
            self._world.consent(name, change.withdraw, given=False)
        if change.disable_in is not None:
            principal.disabled_in.add(change.disable_in)
        if change.enable_in is not None:
            principal.disabled_in.discard(change.enable_in)
        return web.json_response(views.principal_state(principal))

    async def delete_principal(self, request: web.Request) -> web.Response:
        """Take an identity or application away."""
        self._world.remove_principal(request.match_info["principal"])
        return web.json_response({})

    async def change_tenant(self, request: web.Request) -> web.Response:
        """Remove a tenant or bring it back."""
        change = await read_command(request, commands.ChangeTenant)
        self._world.set_tenant(request.match_info["tenant"], present=change.present)
        return await self.state(request)

    async def set_fault(self, request: web.Request) -> web.Response:
        """Bad luck."""
        wanted = await read_command(request, commands.SetFault)
        if wanted.target == EVENT_GRID and wanted.kind not in (FaultKind.LATENCY, FaultKind.DUPLICATE):
            hint = "it knows latency and duplicate; anything else is up to the receiver"
            raise WorldError(f"event-grid knows no fault {wanted.kind}", hint)
        if wanted.target not in (ALL_VAULTS, ENTRA, MANAGED_IDENTITY, ARM, EVENT_GRID):
            self._world.vault(wanted.target)
        fault = self._world.faults.set(wanted.fault(self._world.clock()))
        return web.json_response(views.fault_state(fault))

    async def clear_faults(self, request: web.Request) -> web.Response:
        """One by its number, those of a target, or all."""
        number = request.match_info.get("fault")
        if number is not None and not number.isdigit():
            raise nothing_named("fault", number, known="`byokd emulator state`")
        count = self._world.faults.clear(None if number is None else int(number), request.query.get("target"))
        return web.json_response({"cleared": count})
