"""Identities: a token is to be had for each, where their accounts are."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.ports import StoreUnavailableError
from byokd.ports.examining import Instruments, StoreLook
from byokd.runtime.examinations.configured import IDENTITIES, elsewhere, examine_configured
from byokd.runtime.findings import Finding, Grade, bad, ok, warn
from byokd.runtime.identity_words import WITHDRAWALS, hint_of
from byokd.settings import IdentitySettings

__all__ = ["IDENTITIES", "MOST_UNUSED", "examine_identities"]

MOST_UNUSED: Final = 50
"""Identities that no account uses, and are tried all the same: some endpoints answer twenty requests a second."""


async def examine_identities(
    instruments: Instruments,
    look: StoreLook | StoreUnavailableError,
    *,
    configured: Mapping[str, IdentitySettings],
    suffixes: Collection[str],
) -> Sequence[Finding]:
    """A token is to be had for each identity: where its accounts are, or where its own settings say."""
    used = look.identities if isinstance(look, StoreLook) else frozenset[IdentityName]()
    if not (used or configured):
        hint = "add one to the settings, such as [identities.platform]; accounts with a customer key need one"
        return [warn(IDENTITIES, "no identity is configured", hint=hint)]
    findings = [
        bad(IDENTITIES, f"accounts use the identity {name}, which is not configured", hint=f"add [identities.{name}]")
        for name in sorted(used - set(configured))
    ]
    unused = sorted(set(configured) - used)
    tried = [IdentityName(name) for name in (*sorted(used & set(configured)), *unused[:MOST_UNUSED])]
    found = await asyncio.gather(*(_tried(instruments, look, name, configured[name]) for name in tried))
    had = [name for name, finding in zip(tried, found, strict=True) if finding is None]
    findings += [
        _softened(finding) if used and name in unused else finding
        for name, finding in zip(tried, found, strict=True)
        if finding is not None
    ]
    findings += examine_configured(configured, suffixes=suffixes, now=instruments.clock.now())
    findings += _of_tenants(look, configured)
    findings += await _of_doubles(instruments, had, configured)
    if left := len(unused[MOST_UNUSED:]):
        findings.append(ok(IDENTITIES, f"{left} more that no account uses were not tried"))
    return [*findings, *_well(instruments, look, had, configured)]


def _softened(finding: Finding) -> Finding:
    """Say of an identity that no account uses that nothing is broken yet."""
    return replace(finding, grade=Grade.WARN, found=f"{finding.found}; no account uses it")


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
    """An identity that is not shared may serve several customers only where it was shared when they came.

    And it gets its tokens in the cloud that its accounts' vaults are in.
    """
    using = look.using if isinstance(look, StoreLook) else {}
    places = {name: [place.host for place in places] for name, places in sorted(using.items()) if name in configured}
    clouds = [elsewhere(name, configured[name], hosts) for name, hosts in places.items()]
    return [finding for finding in clouds if finding is not None] + [
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
        if is_used or configured[name].kind == "managed-identity" or configured[name].tenant is not None:
            asked.setdefault(instruments.tokens.endpoint(name), []).append(name)
        else:
            unasked.append(name)
    had = [ok(IDENTITIES, f"{', '.join(of)}: a token was had from {endpoint}") for endpoint, of in asked.items()]
    if not unasked:
        return had
    words = "no token was tried, for neither an account nor identities.NAME.tenant names a tenant"
    return [*had, ok(IDENTITIES, f"{', '.join(unasked)}: {words}; what this machine has for it is in order")]
