"""Account keys: as they come to a customer's key, are moved, and are used."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from byokd.settings.group import Group
from byokd.settings.kinds import Duration, DurationOrNothing


class RegistrationSettings(Group):
    """Accounts that come to a customer's key."""

    wait_for_grant: DurationOrNothing = timedelta(minutes=2)
    """How long an apply waits for a grant that the vault does not know of yet, after all else is done. Longer than a
    fresh grant took where it was measured (84 s); Azure documents up to 10 min, for which nobody wants to watch a
    command line: apply again. 0 s: not at all."""

    deadline: Duration = timedelta(seconds=10)
    """For the calls that prove a key, and again for those that wrap the account key. A vault that hangs holds an apply
    so long, once, and nobody else: all calls of a healthy one take less than a second."""


class RewrapSettings(Group):
    """Moving account keys to a new version."""

    settle: Duration = timedelta(minutes=15)
    """How long the previous wrap is kept, sealed: a stale or failed-over vault must not cost the key."""

    concurrency: Annotated[int, Field(ge=1, le=100)] = 32
    """Account keys being rewrapped at once. At the bound, watches take turns."""

    vault_concurrency: Annotated[int, Field(ge=1, le=100)] = 8
    """Account keys being rewrapped at once by one vault: one that hangs holds up no more than these. Each costs the
    customer's vault three calls."""

    deadline: Duration = timedelta(seconds=15)
    """For the three calls of one rewrap."""

    vault_backoff_first: Duration = timedelta(seconds=2)
    """First wait of a vault that does not answer or refuses; it doubles, and one account probes it for all of its
    watch."""

    vault_backoff_most: Duration = timedelta(seconds=60)
    """Longest wait of such a vault."""

    retry_first: Duration = timedelta(seconds=10)
    """First wait after a failed rewrap; it doubles."""

    retry_most: Duration = timedelta(minutes=10)
    """Longest wait after failed rewraps."""

    @model_validator(mode="after")
    def _related(self) -> Self:
        for kind in ("vault_backoff", "retry"):
            if getattr(self, f"{kind}_most") < getattr(self, f"{kind}_first"):
                raise ValueError(f"{kind}_most is shorter than {kind}_first")
        return self


class ValueSettings(Group):
    """Protected values, and the account keys in the clear that they are read and written with."""

    max_plaintext_age: Duration = timedelta(minutes=5)
    """How old an account key in the clear may become, from the beginning of the unwrap that gave it. Each use after
    that costs the customer's vault one call."""

    most_plaintext: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Account keys held in the clear, about 1 KB each. At the bound the one that was not used for the longest goes."""

    most_bytes: Annotated[int, Field(ge=1, le=1_048_576)] = 16_384
    """Length of one protected value. Keys and signed URLs are shorter by far; files are not meant to be kept here."""

    most_per_account: Annotated[int, Field(ge=1)] = 1000
    """Protected values of one account. At the bound further ones are refused; those that are there can be changed."""
