"""Identities: a token is to be had for each, where their accounts are."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from byokd.domain.accounts import instant
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.ports import StoreUnavailableError
from byokd.ports.examining import Instruments, StoreLook
from byokd.runtime.findings import Finding, bad, ok, warn
from byokd.runtime.identity_files import certificate_times
from byokd.runtime.identity_words import WITHDRAWALS, hint_of
from byokd.settings import IdentitySettings

IDENTITIES: Final = "identities"

CERTIFICATE_NOTED: Final = timedelta(days=30)
"""A certificate that ends sooner is named."""


async def examine_identities(
    instruments: Instruments,
    look: StoreLook | StoreUnavailableError,
    *,
    configured: Mapping[str, IdentitySettings],
) -> Sequence[Finding]:
    """A token is to be had for each identity that accounts use; before there are any, for each that is configured."""
    used = look.identities if isinstance(look, StoreLook) else frozenset[IdentityName]()
    if not (used or configured):
        hint = "add one to the settings, such as [identities.platform]; accounts with a customer key need one"
        return [warn(IDENTITIES, "no identity is configured", hint=hint)]
    findings = [
        bad(IDENTITIES, f"accounts use the identity {name}, which is not configured", hint=f"add [identities.{name}]")
        for name in sorted(used - set(configured))
    ]
    tried = [IdentityName(name) for name in sorted(used & set(configured) or configured)]
    found = await asyncio.gather(*(_tried(instruments, look, name, configured[name]) for name in tried))
    had = [name for name, finding in zip(tried, found, strict=True) if finding is None]
    findings += [finding for finding in found if finding is not None]
    # Those too that nobody uses yet: it costs no call.
    findings += _of_certificates(configured, instruments.clock.now())
    findings += _of_tenants(look, configured)
    findings += await _of_doubles(instruments, had, configured)
    return [*findings, *_well(instruments, look, had, configured)]


async def _tried(
    instruments: Instruments, look: StoreLook | StoreUnavailableError, name: IdentityName, settings: IdentitySettings
) -> Finding | None:
    """Try it where a few of its accounts are; one tenant that gives a token proves the identity."""
    known = look.using.get(name, ()) if isinstance(look, StoreLook) else ()
    # The endpoint of a managed identity knows no tenants: one trial says all.
    places: list[tuple[VaultHost | None, TenantId | None]]
    places = [(one.host, one.tenant) for one in known[: 1 if settings.kind == "managed-identity" else None]]
    trials = (instruments.tokens.failure(name, host=host, tenant=tenant) for host, tenant in places or [(None, None)])
    codes = [code for code in await asyncio.gather(*trials) if code is not None]
    if len(codes) < max(1, len(places)):
        return None
    found = f"no token for {name} from {instruments.tokens.endpoint(name)}"
    if places and set(codes) <= WITHDRAWALS:
        said = ", ".join(f"{tenant} says {code}" for (_, tenant), code in zip(places, codes, strict=True))
        return warn(IDENTITIES, f"{found}: {said}", hint=hint_of(codes[0]))
    code = next((code for code in codes if code not in WITHDRAWALS), codes[0])
    return bad(IDENTITIES, f"{found}: {code}", hint=hint_of(code))


def _of_certificates(identities: Mapping[str, IdentitySettings], now: datetime) -> Sequence[Finding]:
    findings = []
    for name, settings in identities.items():
        times = None if settings.certificate_file is None else certificate_times(settings.certificate_file)
        if times is None:
            continue
        begin, end = times
        hint = f"register a new one with the application and put it into {settings.certificate_file}"
        if begin > now:
            hint = f"Entra ID refuses it until then: put one that holds now into {settings.certificate_file}"
            findings.append(bad(IDENTITIES, f"the certificate of {name} begins on {instant(begin)}", hint=hint))
        elif end <= now:
            findings.append(bad(IDENTITIES, f"the certificate of {name} ended on {instant(end)}", hint=hint))
        elif end <= now + CERTIFICATE_NOTED:
            findings.append(warn(IDENTITIES, f"the certificate of {name} ends on {instant(end)}", hint=hint))
    return findings


async def _of_doubles(
    instruments: Instruments, had: Sequence[IdentityName], configured: Mapping[str, IdentitySettings]
) -> Sequence[Finding]:
    """One managed identity under several names, by client id and by resource id: only its tokens tell."""
    managed = [name for name in had if configured[name].kind == "managed-identity"]
    found = await asyncio.gather(*(instruments.tokens.object_id(name) for name in managed))
    names: dict[str, list[str]] = {}
    for name, object_id in zip(managed, found, strict=True):
        if object_id is not None:
            names.setdefault(object_id, []).append(name)
    return [
        bad(
            IDENTITIES,
            f"{' and '.join(same)} are one managed identity, and not all shared: what one customer granted would serve "
            "another",
            hint="name it once; or set shared for each, so that every key must name its account",
        )
        for same in names.values()
        if len(same) > 1 and not all(configured[name].shared for name in same)
    ]


def _of_tenants(
    look: StoreLook | StoreUnavailableError, configured: Mapping[str, IdentitySettings]
) -> Sequence[Finding]:
    """An identity that is not shared may serve several customers only where it was shared when they came."""
    using = look.using if isinstance(look, StoreLook) else {}
    return [
        warn(
            IDENTITIES,
            f"{name} is not shared, but serves customers of several tenants: one's grant may serve another's account",
            hint=f"set identities.{name}.shared, so that each key must name its account; or give each customer an "
            "identity: byokd accounts repair",
        )
        for name, places in sorted(using.items())
        if name in configured and not configured[name].shared and len({place.tenant for place in places}) > 1
    ]


def _well(
    instruments: Instruments,
    look: StoreLook | StoreUnavailableError,
    names: Sequence[IdentityName],
    configured: Mapping[str, IdentitySettings],
) -> Sequence[Finding]:
    """Say what was had, by endpoint; and of whom no account tells a tenant to ask."""
    asked: dict[str, list[str]] = {}
    unasked = []
    for name in names:
        is_used = isinstance(look, StoreLook) and bool(look.using.get(name))
        if is_used or configured[name].kind in {"managed-identity", "workload-identity"}:
            asked.setdefault(instruments.tokens.endpoint(name), []).append(name)
        else:
            unasked.append(name)
    had = [ok(IDENTITIES, f"{', '.join(of)}: a token was had from {endpoint}") for endpoint, of in asked.items()]
    if not unasked:
        return had
    words = "what it needs here is in order; no account tells a tenant to ask for a token"
    return [*had, ok(IDENTITIES, f"{', '.join(unasked)}: {words}")]
