"""The times that `decide` weighs with, from the settings."""

from byokd.domain.verdict import Policy
from byokd.settings import BrakeSettings, CheckSettings


def policy(checks: CheckSettings, brake: BrakeSettings) -> Policy:
    """Give the times that `decide` weighs with."""
    return Policy(
        check_interval=checks.interval,
        check_jitter=checks.jitter,
        confirm_after=checks.confirm_after,
        confirm_network_after=checks.confirm_network_after,
        recheck_first=checks.recheck_first,
        recheck_most=checks.recheck_most,
        unverified_after=checks.unverified_after,
        fail_closed_after=checks.fail_closed_after,
        flap_window=checks.flap_window,
        flaps_free=checks.flaps_free,
        brake_max_hold=brake.max_hold,
        near_expiry=checks.near_expiry,
    )
