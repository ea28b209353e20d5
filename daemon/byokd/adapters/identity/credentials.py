"""One token for many: identities by name, each tenant's token asked once for all who wait."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from azure.core.credentials import AccessTokenInfo, TokenRequestOptions

from byokd.adapters.identity.classify import OUR_CREDENTIAL, TokenFault, classify_token_error
from byokd.adapters.identity.slots import MOST_TOKENS, Slot, SlotKey, Slots
from byokd.adapters.identity.sources import EXCHANGE, NOBODY, Source, Transport, make_source
from byokd.adapters.identity.standings import Standing
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.ports import Clock, ConsentWithdrawnError, TokenUnavailableError
from byokd.settings import IdentitySettings

FETCH_TIMEOUT: Final = timedelta(seconds=4)
"""For one request to a token endpoint: less than the deadline of a check, so that its failure is seen and counted."""

RENEW_ON_DEMAND_AFTER: Final = timedelta(seconds=30)
"""A rejected token is replaced, and claims are asked for, no sooner than this after the last token was had.

One vault that rejects every token must not make this service hammer the endpoint that all depend on.
"""

VIA: Final = ".via-"
"""Stands between the code of what went wrong and the name of the managed identity that it went wrong with."""

_QUEUED: Final = TokenFault("TokensQueued", withdrawn=False)
_CREDENTIAL_CODES: Final = frozenset({f"AADSTS{number}" for number in OUR_CREDENTIAL})


class IdentityUnknownError(TokenUnavailableError):
    """No identity of that name is configured."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity, code="IdentityUnknown")


@dataclass(slots=True)
class _Shown:
    """What a cross-tenant application shows now, and what Entra ID last refused."""

    assertion: str = field(default="", repr=False)
    refused: str | None = field(default=None, repr=False)

    def __call__(self) -> str:
        return self.assertion


class Credentials:
    """Tokens by the name of an identity.

    Managed identities have one token per scope, whatever the tenant: their endpoint knows only the tenant that they
    live in. All others have one per scope and tenant, asked from that tenant alone: what one tenant gave is never used
    for another. `transport` reaches the token endpoints; it is not closed here. At most `most_tokens` are kept.
    """

    def __init__(
        self,
        identities: Mapping[str, IdentitySettings],
        transport: Transport,
        *,
        clock: Clock,
        most_tokens: int = MOST_TOKENS,
    ) -> None:
        self._identities = identities
        self._transport = transport
        self._clock = clock
        self._sources: dict[str, Source] = {}
        self._shown: dict[str, _Shown] = {}
        self._standings: dict[str, Standing] = {}
        self._slots = Slots(most_tokens)

    async def token(
        self,
        identity: IdentityName,
        *,
        scope: str,
        tenant: TenantId,
        claims: str | None = None,
        rejected: str | None = None,
    ) -> str:
        """Give a token, the one at hand where possible; many callers share one fetch.

        With `claims`, or when the token at hand is `rejected`, a new one is fetched, but not within
        RENEW_ON_DEMAND_AFTER of the last one: then the one at hand is given.

        Raises:
            IdentityUnknownError: no such identity is configured.
            ConsentWithdrawnError: Entra says, or said less than WITHDRAWN_FOR ago, that `tenant` does not let the
                identity in, and there is no token at hand or it is the `rejected` one.
            TokenUnavailableError: the endpoint failed, or did so a moment ago; likewise.
        """
        if identity not in self._identities:
            raise IdentityUnknownError(identity)
        is_managed = self._identities[identity].kind == "managed-identity"
        key = SlotKey(identity, scope, None if is_managed else tenant)
        slot = self._slots.of(key)
        if not self._is_due(slot, claims=claims, rejected=rejected):
            return self._usable(slot, key)
        # While one caller renews it, the others go on with the old one, unless they cannot use that.
        if slot.lock.locked() and claims is None and rejected != slot.token and self._is_usable(slot):
            return self._usable(slot, key)
        async with slot.lock:
            # Somebody else may have fetched, or failed to, while this one waited.
            due = self._is_due(slot, claims=claims, rejected=rejected)
            if due and not self._must_wait(slot, key):
                await self._fetch(slot, key, claims)
            if slot.token == rejected and (slot.failures or self._must_wait(slot, key)):
                raise self._unavailable(slot, key)
            return self._usable(slot, key)

    async def assertion(self, identity: IdentityName) -> str:
        """Give what a cross-tenant identity shows to Entra ID: a token of the managed identity that it trusts.

        Raises:
            TokenUnavailableError: there is none.
        """
        settings, refused = self._identities[identity], self._shown.setdefault(identity, _Shown()).refused
        via, scope = IdentityName(settings.via or ""), EXCHANGE[settings.authority]
        return await self.token(via, scope=scope, tenant=TenantId(NOBODY), rejected=refused)

    def make_ready(self, identity: IdentityName) -> None:
        """Read what the identity needs, without asking anybody.

        Raises:
            OSError: its certificate cannot be read.
            ValueError: its certificate cannot be used.
        """
        self._source(identity)

    async def close(self) -> None:
        """Forget all tokens."""
        self._slots.clear()
        for source in self._sources.values():
            await source.close()
        self._sources.clear()
        self._shown.clear()

    def _is_due(self, slot: Slot, *, claims: str | None, rejected: str | None) -> bool:
        """Whether another token is to be fetched."""
        if not self._is_usable(slot) or self._clock.now().timestamp() >= slot.due:
            return True
        demanded = claims is not None or rejected == slot.token
        return demanded and self._clock.monotonic() - slot.fetched >= RENEW_ON_DEMAND_AFTER.total_seconds()

    def _is_usable(self, slot: Slot) -> bool:
        return slot.is_usable(self._clock.now().timestamp())

    def _usable(self, slot: Slot, key: SlotKey) -> str:
        if slot.token is None or not self._is_usable(slot):
            raise self._unavailable(slot, key)
        return slot.token

    def _standing(self, identity: IdentityName) -> Standing:
        standing = self._standings.get(identity)
        if standing is None:
            standing = self._standings[identity] = Standing()
        return standing

    def _must_wait(self, slot: Slot, key: SlotKey) -> bool:
        now = self._clock.monotonic()
        return now < slot.failed_until or self._standing(key.identity).is_held(now)

    def _unavailable(self, slot: Slot, key: SlotKey) -> TokenUnavailableError:
        now, standing = self._clock.monotonic(), self._standing(key.identity)
        # What a tenant said earlier says nothing while nobody asks it.
        is_stale = now >= slot.failed_until and standing.is_held(now)
        fault = standing.failure if is_stale else slot.failure
        kind = ConsentWithdrawnError if fault.withdrawn else TokenUnavailableError
        return kind(key.identity, code=fault.code)

    async def _fetch(self, slot: Slot, key: SlotKey, claims: str | None) -> None:
        """Ask the endpoint once and note how it went."""
        standing, is_asked = self._standing(key.identity), False
        shown: str | None = None
        try:
            shown = await self._show(key.identity)
            async with asyncio.timeout(FETCH_TIMEOUT.total_seconds()), standing.turns:
                if self._must_wait(slot, key):
                    return
                is_asked = True
                got = await self._ask(key, claims)
        except TokenUnavailableError as error:
            via = self._identities[key.identity].via
            self._fail(slot, key, TokenFault(f"{error.code}{VIA}{via}", withdrawn=False))
        except Exception as error:  # noqa: BLE001 - credentials raise all sorts; its text may hold what must not be shown
            if not is_asked and isinstance(error, TimeoutError):
                slot.failure = _QUEUED
                return
            fault = classify_token_error(error, tenant=key.tenant)
            self._fail(slot, key, fault)
            self._look_again(key.identity, fault, error, shown=shown)
        else:
            slot.take(got, now=self._clock.now().timestamp(), monotonic=self._clock.monotonic())
            standing.succeed()

    async def _show(self, identity: IdentityName) -> str | None:
        """Have the assertion of a cross-tenant identity at hand."""
        if self._identities[identity].kind != "cross-tenant":
            return None
        assertion = await self.assertion(identity)
        self._shown[identity].assertion = assertion
        return assertion

    async def _ask(self, key: SlotKey, claims: str | None) -> AccessTokenInfo:
        # Managed identities ignore claims, but with any the package passes over its own cache, which hides failures.
        options: TokenRequestOptions = {"enable_cae": True, "claims": claims or "{}"}
        if key.tenant is not None:
            options["tenant_id"] = key.tenant
        return await self._source(key.identity).get_token_info(key.scope, options=options)

    def _fail(self, slot: Slot, key: SlotKey, fault: TokenFault) -> None:
        now = self._clock.monotonic()
        slot.fail(fault, monotonic=now)
        # A managed identity fails per scope; there are few, and one that it has no token for says nothing of others.
        if key.tenant is not None:
            self._standing(key.identity).fail(fault, key.tenant, monotonic=now)

    def _look_again(self, identity: IdentityName, fault: TokenFault, error: Exception, *, shown: str | None) -> None:
        """Take certificate, federated token and assertion anew after one that was refused, or could not be read."""
        if fault.code in _CREDENTIAL_CODES or isinstance(error, OSError | ValueError):
            self._sources.pop(identity, None)
        if shown is not None and fault.code in _CREDENTIAL_CODES:
            self._shown[identity].refused = shown

    def _source(self, identity: IdentityName) -> Source:
        if identity not in self._sources:
            shown = self._shown.setdefault(identity, _Shown())
            self._sources[identity] = make_source(self._identities[identity], self._transport, shown)
        return self._sources[identity]
