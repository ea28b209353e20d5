"""The JSON documents of the control API about role assignments."""

from typing import TypedDict

RoleAssignmentState = TypedDict(
    "RoleAssignmentState",
    {
        "id": str,
        "scope": str,
        "role": str,
        "principal": str | None,
        "object_id": str,
        "from": float,
        "until": float | None,
    },
)
"""One role assignment; vaults go by it from `from` until `until`."""


class RoleOptions(TypedDict, total=False):
    """Who gets a role, and where: at the vault itself unless told otherwise."""

    principal: str
    at: str
    key: str
    delay_seconds: float
