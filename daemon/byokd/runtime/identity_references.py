"""How an account names its identity: by the name in the settings, or by a managed identity's ARM id."""

from collections.abc import Collection, Mapping

from byokd.domain.identifiers import IdentifierInvalidError, IdentityName, shown
from byokd.domain.managed_identities import parse_managed_identity


class IdentityReferenceError(ValueError):
    """No identity of the settings is meant. The message says what is wrong, the hint what is right."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def find_identity(reference: str, identities: Collection[str], resource_ids: Mapping[str, str]) -> IdentityName:
    """Give the name of the identity that is meant.

    Args:
        reference: what an account says.
        identities: names that the settings know.
        resource_ids: names of those that have an ARM id, by that id in lower case.

    Raises:
        IdentityReferenceError: it is neither a name nor an ARM id that the settings know.
    """
    names = f"there are: {', '.join(sorted(identities)) or 'none'}"
    if not reference.startswith("/"):
        if reference in identities:
            return IdentityName(reference)
        raise IdentityReferenceError(f"there is no identity {shown(reference)} in the settings", hint=names)
    try:
        found = resource_ids.get(parse_managed_identity(reference))
    except IdentifierInvalidError as error:
        raise IdentityReferenceError(str(error), hint=error.hint) from None
    if found is None:
        raise IdentityReferenceError(
            f"no identity of the settings has the resource_id {shown(reference)}",
            hint=f"the operator adds it as resource_id of a managed identity, or the account uses a name; {names}",
        )
    return IdentityName(found)
