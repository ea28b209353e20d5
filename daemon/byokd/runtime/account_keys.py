"""The life of an account key: made, wrapped, proved, sealed; opened, moved. No plaintext outlives a call."""

import hmac
from datetime import timedelta

from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import AccountId
from byokd.domain.payload import ACCOUNT_KEY_BYTES, Payload, PayloadInvalidError
from byokd.domain.refusals import explain
from byokd.ports import AccountCipher, Clock, KeyService, KeyTarget, Randomness, Sealer
from byokd.records import SealedKey, WrappedKey
from byokd.runtime.layers import Layers
from byokd.runtime.rounds import Round


class VaultRefusedError(Exception):
    """The vault did not wrap or unwrap. `answer` is what it said; `hint` what to do."""

    def __init__(self, step: str, answer: Refused | NoAnswer) -> None:
        explanation = explain(answer)
        super().__init__(f"{step}: {explanation.message}")
        self.hint = explanation.hint
        self.answer = answer


class WrapUnprovenError(Exception):
    """The vault unwrapped something else than was wrapped a moment ago. Nothing was committed."""


class AccountKeys:
    """Makes, opens and moves account keys.

    Both layers, always: first the customer's key (in the vault) or the system key, then the storage key.
    """

    def __init__(
        self,
        keys: KeyService,
        sealer: Sealer,
        cipher: AccountCipher,
        *,
        clock: Clock,
        randomness: Randomness,
        deadline: timedelta,
    ) -> None:
        """Take the collaborators; `deadline` bounds all the calls of one opening or placing."""
        self._keys = keys
        self._layers = Layers(sealer, cipher)
        self._clock = clock
        self._randomness = randomness
        self._deadline = deadline

    def make(self, account: AccountId) -> Payload:
        """Make the key of a new account, at generation 1."""
        return Payload.bind(self._randomness.bytes(ACCOUNT_KEY_BYTES), account=account, generation=1)

    async def open(self, wrapped: WrappedKey, target: KeyTarget | None) -> Payload:
        """Open the account key by a live unwrap.

        Args:
            wrapped: the wrapped key, current or superseded.
            target: who unwraps, at the exact version in `wrapped`; None under the system key.

        Raises:
            VaultRefusedError: the vault did not unwrap.
            PayloadInvalidError, SealBrokenError: the record is damaged.
            ServiceKeyMissingError: a service key is missing.
        """
        wrap = self._layers.uncover(wrapped)
        if target is None:
            return self._layers.unwrap(wrapped, wrap)
        answer = await self._round().unwrap(target, wrap.inner)
        if not isinstance(answer, bytes):
            raise VaultRefusedError("unwrap the account key", answer)
        return self._layers.read(wrapped, wrap, answer)

    async def place(self, payload: Payload, account: AccountId, target: KeyTarget | None) -> SealedKey:
        """Wrap a payload, prove the wrap by unwrapping it again, and seal it.

        Args:
            payload: bound to `account` and to the generation that it will have.
            account: whose it is.
            target: who wraps, at an exact version; None for the system key.

        Returns:
            the sealed wrap, opened by `open` with the same account, generation and key identifier.

        Raises:
            VaultRefusedError: the vault did not wrap or unwrap.
            WrapUnprovenError: what came back is not what went in.
        """
        by_customer = None if target is None else (target.key, await self._wrap_proved(payload, target))
        return self._layers.wrap(payload, account, by_customer=by_customer)

    async def _wrap_proved(self, payload: Payload, target: KeyTarget) -> bytes:
        calls = self._round()
        plaintext = payload.encode()
        wrapped = await calls.wrap(target, plaintext)
        if not isinstance(wrapped, bytes):
            raise VaultRefusedError("wrap the account key", wrapped)
        opened = await calls.unwrap(target, wrapped)
        if not isinstance(opened, bytes):
            raise VaultRefusedError("unwrap what was just wrapped", opened)
        if not hmac.compare_digest(opened, plaintext):
            raise WrapUnprovenError("the vault unwrapped another value than it wrapped")
        return wrapped

    def _round(self) -> Round:
        return Round(self._keys, self._clock, deadline=self._deadline)


def rebound(payload: Payload, account: AccountId) -> Payload:
    """Bind the same account key to the next generation."""
    return Payload.bind(payload.account_key, account=account, generation=payload.generation + 1)


__all__ = ["AccountKeys", "PayloadInvalidError", "VaultRefusedError", "WrapUnprovenError", "rebound"]
