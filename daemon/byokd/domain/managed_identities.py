"""ARM ids of user-assigned managed identities, as they come from settings and accounts files."""

import re

from byokd.domain.identifiers import MAX_IDENTIFIER_CHARS, IdentifierInvalidError, shown

_GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_MANAGED_IDENTITY = re.compile(
    rf"/subscriptions/{_GUID}/resourceGroups/[0-9a-z_().-]{{0,89}}[0-9a-z_()-]"
    r"/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[0-9a-z][0-9a-z_-]{2,127}",
    re.IGNORECASE | re.ASCII,
)


def parse_managed_identity(text: str) -> str:
    """Read the ARM id of a user-assigned identity; give it in lower case, because ARM ignores case.

    Raises:
        IdentifierInvalidError: it is not of that form.
    """
    if len(text) > MAX_IDENTIFIER_CHARS or _MANAGED_IDENTITY.fullmatch(text) is None:
        raise IdentifierInvalidError(
            f"not the ARM id of a user-assigned managed identity: {shown(text)}",
            hint="/subscriptions/{guid}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity"
            "/userAssignedIdentities/{name}, as `az identity show --query id` prints it",
        )
    return text.lower()
