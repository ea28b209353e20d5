"""What the settings alone tell, without asking anybody: certificates and clouds."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from byokd.domain.accounts import instant
from byokd.domain.identifiers import VaultHost
from byokd.runtime.examinations.broker import BROKER
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
    findings: list[Finding] = []
    for name, settings in identities.items():
        if settings.certificate_file is not None:
            renew = f"register a new one with the application and put it into {settings.certificate_file}"
            wait = f"Entra ID refuses it until then: put one that holds now into {settings.certificate_file}"
            times = certificate_times(settings.certificate_file)
            findings += _dated(IDENTITIES, f"the certificate of {name}", times, now, renew=renew, wait=wait)
    return findings


def examine_broker_certificate(path: Path | None, *, now: datetime) -> Sequence[Finding]:
    """Find that the certificate which the broker is shown does not hold, or not for long.

    One that cannot be read is a mistake in the settings already.
    """
    if path is None:
        return []
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return []
    times = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    renew = f"put a new one into {path}, with its key; it is read when the bus is connected to next"
    wait = f"brokers refuse it until then: put one that holds now into {path}"
    return _dated(BROKER, "mqtt.certificate_file: the certificate", times, now, renew=renew, wait=wait)


def _dated(
    component: str, what: str, times: tuple[datetime, datetime] | None, now: datetime, *, renew: str, wait: str
) -> Sequence[Finding]:
    if times is None:
        return []
    begin, end = times
    if begin > now:
        return [bad(component, f"{what} begins on {instant(begin)}", hint=wait)]
    if end <= now:
        return [bad(component, f"{what} ended on {instant(end)}", hint=renew)]
    return [warn(component, f"{what} ends on {instant(end)}", hint=renew)] if end <= now + CERTIFICATE_NOTED else []
