"""What a vault can answer, in byokd's words. Adapters classify once, at the edge; everything inside reads these."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from byokd.domain.identifiers import AccountId, KeyVersion, shown
from byokd.domain.vocabulary import Reason, RefusalKind

WRAPPING_OPERATIONS = frozenset({"wrapKey", "unwrapKey"})
FIT_BITS = (2048, 3072, 4096)
FIT_TYPES = ("RSA", "RSA-HSM")
OWN_LIMIT = "OwnLimit"
"""The code of an answer that no vault gave: our own limit on calls left no time to ask."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an answer rests on, fit to be stored and shown: codes and ids, never bodies, tokens or values.

    Attributes:
        address: our own address as the vault saw it, where its network rules refused it.
        told: what else it told that decides, in byokd's words: the dates of a version, the tenant of a challenge.
        at: when it was seen; None until a verdict or a suspicion rests on it.
    """

    operation: str
    status: int | None = None
    code: str | None = None
    inner_code: str | None = None
    request_id: str | None = None
    address: str | None = None
    told: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What GET tells of one version of a key. Times are aware (UTC); `bits` is the length of the modulus.

    `accounts` are those that its tags name; no other tag is kept.
    """

    version: KeyVersion
    key_type: str
    bits: int
    enabled: bool
    operations: frozenset[str]
    created: datetime | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    recovery_level: str | None = None
    accounts: frozenset[AccountId] = frozenset()

    def unfit_for_registration(self) -> str | None:
        """Say why no account key may ever be wrapped by this kind of key, or None."""
        if self.key_type not in FIT_TYPES:
            return f"the key is of type {shown(self.key_type)}; only RSA and RSA-HSM keys can wrap account keys"
        if self.bits not in FIT_BITS:
            return f"the key has {self.bits} bits; 2048, 3072 and 4096 are supported"
        return None

    def unfit_for_wrapping(self, now: datetime) -> str | None:
        """Say why this version cannot be adopted at `now`, or None."""
        if (unfit := self.unfit_for_registration()) is not None:
            return unfit
        if not self.enabled:
            return "the version is disabled"
        if self.not_before is not None and now < self.not_before:
            return f"the version is not valid before {self.not_before:%Y-%m-%dT%H:%M:%SZ}"
        if self.expires is not None and now >= self.expires:
            return f"the version expired at {self.expires:%Y-%m-%dT%H:%M:%SZ}"
        if missing := WRAPPING_OPERATIONS - self.operations:
            return f"the key operations lack {' and '.join(sorted(missing))}"
        return None

    @property
    def evidence(self) -> Evidence:
        """Say what GET told of this version that explains a denial."""
        told = ["enabled" if self.enabled else "disabled"]
        if self.not_before is not None:
            told.append(f"valid from {self.not_before:%Y-%m-%dT%H:%M:%SZ}")
        if self.expires is not None:
            told.append(f"expires {self.expires:%Y-%m-%dT%H:%M:%SZ}")
        if missing := WRAPPING_OPERATIONS - self.operations:
            told.append(f"lacks {' and '.join(sorted(missing))}")
        return Evidence("get", status=200, told=f"version {self.version}: {', '.join(told)}")


@dataclass(frozen=True, slots=True)
class Refused:
    """A genuine refusal, in the form of who said it.

    The vault itself over verified TLS; Entra for the pinned tenant; or DNS, that the vault's name is no more.
    """

    kind: RefusalKind
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing that the vault said of the key: trouble on the way, at the vault, or of our own.

    Attributes:
        retry_after: how long whoever answered wants to be left alone, within bounds; None when it did not say.
    """

    reason: Reason
    evidence: Evidence
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ProbeOpened:
    """Unwrap gave back the probe."""


@dataclass(frozen=True, slots=True)
class ProbeMismatched:
    """Unwrap gave another value than the probe."""

    evidence: Evidence


ProbeAnswer = ProbeOpened | ProbeMismatched | Refused | NoAnswer
FactsAnswer = KeyFacts | Refused | NoAnswer
