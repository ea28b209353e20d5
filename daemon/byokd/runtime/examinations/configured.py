"""What the settings of identities alone tell, without asking anybody: certificates and clouds."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from byokd.domain.accounts import instant
from byokd.domain.identifiers import VaultHost
from byokd.runtime.findings import Finding, bad, warn
from byokd.runtime.identity_files import certificate_times
from byokd.settings import IdentitySettings
from byokd.settings.identities import VAULTS_OF

IDENTITIES: Final = "identities"

CERTIFICATE_NOTED: Final = timedelta(days=30)
"""A certificate that ends sooner is named."""


def examine_configured(
    identities: Mapping[str, IdentitySettings], *, suffixes: Collection[str], now: datetime
) -> Sequence[Finding]:
    """Find certificates that do not hold, and authorities of a cloud of which no vault is allowed.

    Args:
        identities: by their names.
        suffixes: of the vaults that are allowed.
        now: when (UTC).
    """
    return [*_of_certificates(identities, now), *_of_clouds(identities, suffixes)]


def elsewhere(name: str, identity: IdentitySettings, hosts: Collection[VaultHost]) -> Finding | None:
    """Warn of an identity whose accounts have vaults of another cloud than its authority."""
    others = {host.partition(".")[2] for host in hosts} & set(VAULTS_OF.values()) - {VAULTS_OF[identity.authority]}
    if identity.kind == "managed-identity" or not others:
        return None
    return warn(
        IDENTITIES,
        f"{name} asks {identity.authority}, but vaults of its accounts are of another cloud: "
        f"{', '.join(sorted(others))}",
        hint=f"set identities.{name}.authority to Entra ID of the vaults' cloud",
    )


def _of_clouds(identities: Mapping[str, IdentitySettings], suffixes: Collection[str]) -> Sequence[Finding]:
    if not set(suffixes) & set(VAULTS_OF.values()):
        return []  # names of one's own: nothing tells their cloud
    return [
        warn(
            IDENTITIES,
            f"{name} asks {identity.authority}, but no vault of that cloud is allowed: vaults.allowed_suffixes has "
            f"{', '.join(suffixes)}",
            hint=f"set identities.{name}.authority to Entra ID of the vaults' cloud; or add "
            f"{VAULTS_OF[identity.authority]} to vaults.allowed_suffixes",
        )
        for name, identity in identities.items()
        if identity.kind != "managed-identity" and VAULTS_OF[identity.authority] not in suffixes
    ]


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
