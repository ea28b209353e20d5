"""The brake: what looks like our own fault is not taken for the customers' doing.

Pure. Holding is safe: from the first denial on, nothing is used without a live unwrap by the vault.
"""

from byokd.domain.vocabulary import Reason

OUR_FAULT_CAN_CAUSE = frozenset(
    {
        Reason.ACCESS_DENIED,
        Reason.CONSENT_WITHDRAWN,
        Reason.NETWORK_BLOCKED,
        Reason.VAULT_NOT_FOUND,
        Reason.WRONG_TENANT,
    }
)
"""Denials that a defect of our own credential, network or name resolution can cause.

What an authenticated vault says of its key (disabled, deleted, not permitted) is never held.
"""
