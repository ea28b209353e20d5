"""When keys are checked, and which denials are held back."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from byokd.settings.group import Group
from byokd.settings.kinds import Duration


class CheckSettings(Group):
    """When keys are checked.

    A revocation that the vault already enforces is published within (1 + jitter) * interval + deadline +
    confirm_after + deadline: 1.1 * 60 + 5 + 5 + 5 = 81 s by default.
    """

    interval: Duration = timedelta(seconds=60)
    """Between two checks of a healthy watch."""

    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the interval by which checks are spread, so that vaults are not asked in step."""

    deadline: Duration = timedelta(seconds=5)
    """For all calls of one check, started before the first."""

    confirm_after: Duration = timedelta(seconds=5)
    """A denial counts only if a second one, on a new connection, is seen this much later."""

    confirm_network_after: Duration = timedelta(minutes=5)
    """The same for denials by network rules, which are often about our own new address, and for vaults whose name is
    gone."""

    recheck_first: Duration = timedelta(seconds=10)
    """First wait while a version is denied; it then doubles."""

    recheck_most: Duration = timedelta(minutes=5)
    """Longest wait while a version is denied: how late a recovery is noticed at worst."""

    unverified_after: Duration = timedelta(minutes=15)
    """A version that could not be verified for this long is reported, once."""

    fail_closed_after: Duration | None = None
    """A version that could not be verified for this long makes its accounts Inaccessible, with the reason `Unverified`,
    although nothing denied the key. Unset: never, for then trouble of ours would be an outage of the customers'."""

    flap_window: Duration = timedelta(hours=1)
    """A version that recovers, or is denied for yet another reason, again within this time flips."""

    flaps_free: Annotated[int, Field(ge=1, le=100)] = 3
    """So many times it may flip before a recovery, or another reason, must be seen to last: for `recheck_first` at
    first, doubling to `recheck_most`. A key that comes and goes every few seconds then changes its accounts some 15
    times an hour. A denial of a usable version is never delayed."""

    near_expiry: Duration = timedelta(days=30)
    """A wrapping version that expires within this time is warned of, once for each expiry date."""

    clock_skew: Duration = timedelta(minutes=5)
    """How far this machine's clock may be off the vaults' before that is reported: what Entra ID puts up with."""

    vault_backoff_first: Duration = timedelta(seconds=2)
    """First wait of a vault that fails or throttles; it doubles, and one watch probes it while the rest wait."""

    vault_backoff_most: Duration = timedelta(seconds=60)
    """Longest wait of a failing vault."""

    hint_spacing: Duration = timedelta(seconds=5)
    """Between two checks of one watch that follow hints. Hints that come sooner are followed together, and a last check
    this much later sees what takes a while to reach all of a vault."""

    concurrency: Annotated[int, Field(ge=1, le=1000)] = 100
    """Checks running at once. At the bound, due checks wait in the order of their due times."""

    vault_concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    """Checks running at once against one vault."""

    @model_validator(mode="after")
    def _related(self) -> Self:
        if self.recheck_most < self.recheck_first:
            raise ValueError("recheck_most is shorter than recheck_first")
        if self.fail_closed_after is not None and self.fail_closed_after < self.unverified_after:
            raise ValueError("fail_closed_after is shorter than unverified_after: accounts would close unannounced")
        if self.vault_backoff_most < self.vault_backoff_first:
            raise ValueError("vault_backoff_most is shorter than vault_backoff_first")
        return self


class BrakeSettings(Group):
    """The brake: holds back denials that look like our own fault. Meanwhile every use needs a live unwrap.

    It engages when at least `customers` customers, and at least `share` of them, are suspected to deny at once for
    reasons that our own fault can cause. A customer is a tenant, or a vault while there are fewer than ten tenants.
    """

    customers: Annotated[int, Field(ge=2)] = 3
    """So many customers must be suspected. Fewer are lost as any customer is, and come back by themselves."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """And this share of all customers, of an identity's, or of those looked at lately. A fault of ours meets all who
    share it; customers who revoke by chance at the same moment are few of many."""

    mode: Literal["hold", "observe"] = "hold"
    """`hold`: denials are held while it is engaged. `observe`: it engages and tells of it, and holds nothing; for
    trying out. An operator's `byokd brake engage` holds in any mode."""

    max_hold: Duration = timedelta(hours=1)
    """Longest time that a confirmed denial is held. Then it counts, if the vault still denies."""
