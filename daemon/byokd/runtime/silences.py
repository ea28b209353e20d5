"""What was refused, and who gave no answer, while accounts before this one were applied: it is not asked again."""

from collections.abc import Iterator
from contextlib import contextmanager

from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, TenantId, VaultHost
from byokd.domain.vocabulary import Reason
from byokd.ports import KeyTarget
from byokd.runtime.account_keys import VaultRefusedError


class AccountRefusedError(Exception):
    """The account cannot be brought to what is wanted; nothing of it was changed.

    `commands` mend it, in order, where a customer can do so.
    """

    missing: tuple[str, ...] = ()

    def __init__(self, message: str, *, hint: str, commands: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.commands = commands


class GrantMissingError(AccountRefusedError):
    """The identity lacks permissions: `missing`. A fresh grant takes minutes to be known."""

    def __init__(self, message: str, *, hint: str, commands: tuple[str, ...], missing: tuple[str, ...]) -> None:
        super().__init__(message, hint=hint, commands=commands)
        self.missing = missing

    def anew(self) -> "GrantMissingError":
        """Give the same refusal for another account: raised by many, one exception would gather their tracebacks."""
        return GrantMissingError(str(self), hint=self.hint, commands=self.commands, missing=self.missing)


class Silences:
    """Who gave no answer a moment ago, or lacks a grant: whoever asks again would wait, or be refused, again."""

    def __init__(self) -> None:
        self._vaults: set[VaultHost] = set()
        self._tokens: set[tuple[IdentityName, TenantId]] = set()
        self._ungranted: dict[KeyTarget, GrantMissingError] = {}

    def forget_grants(self) -> None:
        """Let those be asked again who lacked a grant."""
        self._ungranted.clear()

    @contextmanager
    def heeded(self, target: KeyTarget) -> Iterator[None]:
        """Ask the vault of `target` inside; a lack of an answer, or of a grant, is remembered.

        Raises:
            AccountRefusedError: it gave no answer, or refused, before; it is not asked again.
        """
        again = "nothing was changed; apply again when it answers"
        if target.key.host in self._vaults:
            raise AccountRefusedError("not tried: the vault did not answer a moment ago", hint=again)
        if (target.identity, target.tenant) in self._tokens:
            raise AccountRefusedError("not tried: there was no token for the identity a moment ago", hint=again)
        if (ungranted := self._ungranted.get(target)) is not None:
            raise ungranted.anew()
        try:
            yield
        except VaultRefusedError as error:
            self._remember(target, error.answer)
            raise
        except GrantMissingError as error:
            self._ungranted[target] = error.anew()
            raise

    def _remember(self, target: KeyTarget, answer: Refused | NoAnswer) -> None:
        if not isinstance(answer, NoAnswer):
            return
        if answer.reason is Reason.TOKEN_UNAVAILABLE:
            self._tokens.add((target.identity, target.tenant))
        else:
            self._vaults.add(target.key.host)
