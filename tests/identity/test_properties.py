"""Whatever happens: a token of one tenant is never given for another, and only the tenant's own word withdraws."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byokd.domain.identifiers import IdentityName, TenantId
from byokd.emulator import FaultKind
from byokd.ports import ConsentWithdrawnError, TokenUnavailableError
from identity.platform import APPLICATIONS, SCOPE, Platform, claims_of, running_platform

TENANTS = [TenantId(f"{number:08x}-0000-0000-0000-000000000001") for number in range(4)]
SCOPES = [SCOPE, "https://management.azure.com/.default"]

asks = st.tuples(
    st.just("ask"),
    st.lists(
        st.tuples(
            st.sampled_from(APPLICATIONS),
            st.sampled_from(TENANTS),
            st.sampled_from(SCOPES),
            st.sampled_from([None, "claims", "rejected"]),
        ),
        min_size=1,
        max_size=12,
    ),
)
changes = st.one_of(
    st.tuples(st.just("let"), st.sampled_from(APPLICATIONS), st.sampled_from(TENANTS)),
    st.tuples(st.just("throw"), st.sampled_from(APPLICATIONS), st.sampled_from(TENANTS)),
    st.tuples(st.just("fault"), st.sampled_from(["700027", "53003", "90033"]), st.sampled_from([400, 401, 503])),
    st.tuples(st.just("well")),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 31.0, 1800.0, 3590.0])),
)


class Life:
    """Plays a list of happenings, and looks at every token that comes out."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.credentials = platform.other(most_tokens=5)
        self.let_in: set[tuple[str, TenantId]] = set()
        self.last: dict[tuple[str, TenantId, str], str] = {}

    async def play(self, steps: list[tuple[object, ...]]) -> None:
        for word, *rest in steps:
            await getattr(self, f"_{word}")(*rest)
        await self.credentials.close()

    async def _ask(self, questions: list[tuple[str, TenantId, str, str | None]]) -> None:
        await asyncio.gather(*(self._one(*question) for question in questions))
        assert len(self.credentials._slots) <= 5 + 2 * len(questions), "each, and what a cross-tenant one shows"

    async def _one(self, name: str, tenant: TenantId, scope: str, demand: str | None) -> None:
        more = {"claims": "{}"} if demand == "claims" else {}
        if demand == "rejected" and (name, tenant, scope) in self.last:
            more = {"rejected": self.last[name, tenant, scope]}
        try:
            token = await self.credentials.token(IdentityName(name), scope=scope, tenant=tenant, **more)
        except ConsentWithdrawnError:
            assert (name, tenant) not in self.let_in, "nobody withdrew anything"
        except TokenUnavailableError:
            pass
        else:
            claims = claims_of(token)
            assert (claims["tid"], claims["aud"]) == (tenant, scope.removesuffix("/.default"))
            assert claims["appid"] == self.platform.identities[name].client_id
            assert claims["exp"] > self.platform.clock.now().timestamp()
            self.last[name, tenant, scope] = token

    async def _let(self, name: str, tenant: TenantId) -> None:
        await self.platform.emulator.control.change_application(name, consent=tenant)
        # What Entra said a moment ago may still be passed on.
        self.platform.clock.ahead += 3
        self.let_in.add((name, tenant))

    async def _throw(self, name: str, tenant: TenantId) -> None:
        await self.platform.emulator.control.change_application(name, withdraw=tenant)
        self.let_in.discard((name, tenant))

    async def _fault(self, number: str, status: int) -> None:
        await self.platform.emulator.control.set_fault("entra", FaultKind.ANSWER, status=status, inner=number)

    async def _well(self) -> None:
        await self.platform.emulator.control.clear_faults()

    async def _wait(self, seconds: float) -> None:
        self.platform.clock.ahead += seconds


@given(st.lists(st.one_of(asks, changes), min_size=4, max_size=14))
@settings(max_examples=12)
def test_no_token_of_one_tenant_is_given_for_another(steps: list[tuple[object, ...]]) -> None:
    async def live() -> None:
        with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
            async with running_platform(Path(directory), patch) as platform:
                for name in APPLICATIONS:
                    for tenant in TENANTS[:2]:
                        await platform.emulator.control.change_application(name, consent=tenant)
                life = Life(platform)
                life.let_in = {(name, tenant) for name in APPLICATIONS for tenant in TENANTS[:2]}
                await life.play(steps)

    asyncio.run(live())
