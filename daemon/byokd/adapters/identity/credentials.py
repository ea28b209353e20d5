"""One token for many: identities by name, each asked once for all who wait."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.identity.aio import ManagedIdentityCredential

from byokd.adapters.identity.classify import TokenFault, classify_token_error
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.ports import Clock, ConsentWithdrawnError, TokenUnavailableError
from byokd.settings import IdentitySettings

FETCH_TIMEOUT: Final = timedelta(seconds=4)
"""For one request to a token endpoint: less than the deadline of a check, so that its failure is seen and counted."""

RENEW_BEFORE: Final = timedelta(minutes=5)
"""A token is renewed this long before it expires, or when its endpoint says so."""

USE_UNTIL: Final = timedelta(seconds=30)
"""A token that cannot be renewed is used until this long before it expires."""

BACKOFF_FIRST: Final = timedelta(seconds=1)
BACKOFF_MOST: Final = timedelta(seconds=30)
"""Waits of a failing identity: doubled from the first to the longest. Meanwhile everybody fails at once."""

WITHDRAWN_FOR: Final = timedelta(seconds=2)
"""How long Entra's word that a tenant does not let us in is passed on before it is asked again.

No doubling: it did answer. And shorter than the time after which a second denial confirms the first (5 s by default),
so that one answer never counts as two.
"""

RENEW_ON_DEMAND_AFTER: Final = timedelta(seconds=30)
"""A rejected token is replaced, and claims are asked for, no sooner than this after the last token was had.

One vault that rejects every token must not make this service hammer the endpoint that all depend on.
"""

Transport = AsyncHttpTransport[HttpRequest, AsyncHttpResponse]


class IdentityUnknownError(TokenUnavailableError):
    """No identity of that name is configured."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity, code="IdentityUnknown")


_EXPIRED: Final = TokenFault("Expired", withdrawn=False)


@dataclass(slots=True)
class _Slot:
    """A token and what is known of getting it. Times: `due` and `usable_until` in epoch seconds, the rest monotonic."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str | None = field(default=None, repr=False)
    due: float = 0
    usable_until: float = 0
    fetched: float = 0
    failures: int = 0
    failed_until: float = 0
    failure: TokenFault = _EXPIRED
    failed_for: TenantId | None = None


class Credentials:
    """Tokens by the name of an identity.

    Managed identities have one token per scope, whatever the tenant: their endpoint knows only the tenant that they
    live in. `transport` reaches the token endpoint; it is not closed here.
    """

    def __init__(self, identities: Mapping[str, IdentitySettings], transport: Transport, *, clock: Clock) -> None:
        self._identities = identities
        self._transport = transport
        self._clock = clock
        self._sources: dict[str, ManagedIdentityCredential] = {}
        self._slots: dict[tuple[str, str], _Slot] = {}

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
        slot = self._slots.setdefault((identity, scope), _Slot())
        if not self._is_due(slot, claims=claims, rejected=rejected):
            return self._usable(slot, identity, tenant)
        # While one caller renews it, the others go on with the old one, unless they cannot use that.
        if slot.lock.locked() and claims is None and rejected != slot.token and self._is_usable(slot):
            return self._usable(slot, identity, tenant)
        async with slot.lock:
            # Somebody else may have fetched, or failed to, while this one waited.
            due = self._is_due(slot, claims=claims, rejected=rejected)
            if due and self._clock.monotonic() >= slot.failed_until:
                await self._fetch(slot, identity, scope=scope, tenant=tenant, claims=claims)
            if slot.failures and slot.token == rejected:
                raise _unavailable(slot, identity, tenant)
            return self._usable(slot, identity, tenant)

    async def close(self) -> None:
        """Forget all tokens."""
        self._slots.clear()
        for source in self._sources.values():
            await source.close()
        self._sources.clear()

    def _is_due(self, slot: _Slot, *, claims: str | None, rejected: str | None) -> bool:
        """Whether another token is to be fetched."""
        if not self._is_usable(slot) or self._clock.now().timestamp() >= slot.due:
            return True
        demanded = claims is not None or rejected == slot.token
        return demanded and self._clock.monotonic() - slot.fetched >= RENEW_ON_DEMAND_AFTER.total_seconds()

    def _is_usable(self, slot: _Slot) -> bool:
        return slot.token is not None and self._clock.now().timestamp() < slot.usable_until

    def _usable(self, slot: _Slot, identity: str, tenant: TenantId) -> str:
        if slot.token is None or not self._is_usable(slot):
            raise _unavailable(slot, identity, tenant)
        return slot.token

    async def _fetch(self, slot: _Slot, identity: str, *, scope: str, tenant: TenantId, claims: str | None) -> None:
        """Ask the endpoint once and note how it went."""
        # Managed identities ignore claims, but with any the package passes over its own cache, which hides failures.
        options: TokenRequestOptions = {"enable_cae": True, "claims": claims or "{}"}
        try:
            async with asyncio.timeout(FETCH_TIMEOUT.total_seconds()):
                got = await self._source(identity).get_token_info(scope, options=options)
        except Exception as error:  # noqa: BLE001 - credentials raise all sorts; its text may hold what must not be shown
            slot.failures += 1
            slot.failure, slot.failed_for = classify_token_error(error, tenant=tenant), tenant
            wait = min(BACKOFF_FIRST * 2 ** min(slot.failures - 1, 10), BACKOFF_MOST)
            wait = WITHDRAWN_FOR if slot.failure.withdrawn else wait
            slot.failed_until = self._clock.monotonic() + wait.total_seconds()
        else:
            self._note(slot, got)

    def _note(self, slot: _Slot, got: AccessTokenInfo) -> None:
        slot.token, slot.fetched = got.token, self._clock.monotonic()
        slot.usable_until = got.expires_on - USE_UNTIL.total_seconds()
        slot.due = min(got.refresh_on or got.expires_on, got.expires_on - RENEW_BEFORE.total_seconds())
        slot.failures, slot.failed_until, slot.failure = 0, 0.0, _EXPIRED

    def _source(self, identity: str) -> ManagedIdentityCredential:
        if identity not in self._sources:
            self._sources[identity] = _managed_identity(self._identities[identity], self._transport)
        return self._sources[identity]


def _unavailable(slot: _Slot, identity: str, tenant: TenantId) -> TokenUnavailableError:
    # What one tenant says of us is no other tenant's word.
    withdrawn = slot.failure.withdrawn and slot.failed_for == tenant
    kind = ConsentWithdrawnError if withdrawn else TokenUnavailableError
    return kind(identity, code=slot.failure.code)


def _managed_identity(settings: IdentitySettings, transport: Transport) -> ManagedIdentityCredential:
    # Retries would outlast every deadline here; the backoff above takes their place.
    return ManagedIdentityCredential(
        client_id=settings.client_id, transport=transport, retry_total=0, retry_status=0, logging_enable=False
    )
