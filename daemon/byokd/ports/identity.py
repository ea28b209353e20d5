"""Why there is no token to ask a vault with."""


class TokenUnavailableError(Exception):
    """There is no token now: our own trouble. `code` names the cause without its text."""

    def __init__(self, identity: str, *, code: str) -> None:
        super().__init__(f"no token for the identity {identity!r}: {code}")
        self.code = code


class ConsentWithdrawnError(TokenUnavailableError):
    """Entra itself, asked just now for the very tenant that was wanted, says that it does not let us in.

    The application is not there, not consented to or disabled, or the tenant is gone.
    """
