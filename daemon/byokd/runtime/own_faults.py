"""Trouble that is ours and not a customer's: no token, no vault that answers, no TLS, a clock that is off.

Gathered from answers that pass by anyway, never by a call of its own; and no part of any decision: what a single answer
means is decided by `judge`. This only says plainly, to the operator, what hits many vaults at once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from typing import Final, Never, TypeVar

from byokd.domain.answers import Evidence, KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import Clock, KeyService, KeyTarget
from byokd.runtime.health import Component, Health
from byokd.runtime.identity_words import hint_of
from byokd.runtime.metrics import Metrics
from byokd.runtime.streaks import Streak, Vaults
from byokd.settings import CheckSettings

INTERVAL: Final = timedelta(seconds=5)
"""Between two looks at what was gathered. What ends trouble is shown at once."""

LASTING: Final = timedelta(seconds=10)
"""Trouble is said once it has lasted so long: longer than any one call, so that a hiccup is not news."""

MOST_IDENTITIES: Final = 100
"""Identities in trouble that are known; accounts can name some that the settings do not have."""

_Answer = TypeVar("_Answer", KeyFacts | Refused | NoAnswer, bytes | Refused | NoAnswer)
_Heard = KeyFacts | bytes | Refused | NoAnswer


class OwnFault(StrEnum):
    """Kinds of trouble of our own, as metrics name them."""

    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    DNS = "dns"
    NETWORK = "network"
    TLS = "tls"
    PROXY = "proxy"
    CLOCK = "clock"


_NOT_OF_THE_VAULT: Final = frozenset({RefusalKind.VAULT_NOT_FOUND, RefusalKind.CONSENT_WITHDRAWN})
"""Refusals that somebody else said: they prove neither that a vault answers nor that it does not."""

_WITHOUT_TOKEN: Final = _NOT_OF_THE_VAULT | {RefusalKind.NETWORK_BLOCKED, RefusalKind.WRONG_TENANT}
"""Refusals that can be had without a token, or for it."""

_SILENCES: Final = {
    Reason.NAME_NOT_RESOLVED: OwnFault.DNS,
    Reason.TLS_FAILED: OwnFault.TLS,
    Reason.TIMED_OUT: OwnFault.NETWORK,
    Reason.CONNECTION_FAILED: OwnFault.NETWORK,
    Reason.FOREIGN_ANSWER: OwnFault.PROXY,
    Reason.UNREADABLE_ANSWER: OwnFault.PROXY,
    Reason.VAULT_ERROR: OwnFault.PROXY,
    Reason.THROTTLED: OwnFault.PROXY,
}
"""What it looks like when the same befalls all vaults. The last four only without the vaults' own headers."""

_WORDS: Final = {
    OwnFault.DNS: ("no vault's name resolves", "check DNS on this machine"),
    OwnFault.NETWORK: ("no vault answers", "check this machine's network, its firewall and the way to Azure"),
    OwnFault.TLS: (
        "no vault's certificate can be verified",
        "check network.ca_file, the time of this machine, and whether a proxy breaks up TLS on the way",
    ),
    OwnFault.PROXY: (
        "something else answers in place of the vaults",
        "look for a proxy or gateway on the way to Azure",
    ),
}
_NOT_THE_KEYS: Final = "customers' keys are not to blame"
_CLOCK_HINT: Final = "set the clock (NTP): tokens, and the dates of keys, are judged by it"


class OwnFaults:
    """Gathers and says. Ages are those of the monotonic clock; few vaults are remembered, however many there are."""

    def __init__(self, clock: Clock, *, health: Health, metrics: Metrics, checks: CheckSettings) -> None:
        """Take the collaborators."""
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._vaults = Vaults(clock)
        self._silence: Streak | None = None
        self._identities: OrderedDict[IdentityName, Streak] = OrderedDict()
        self._skew: Streak | None = None
        self._ahead = timedelta(0)
        self._proved: set[Component] = set()
        self.follow(checks)

    def follow(self, checks: CheckSettings) -> None:
        """Go by these settings from now on."""
        self._bound = checks.clock_skew
        # Whatever is well is looked at once in this time, so that its silence says something too.
        self._round = 2 * checks.interval

    async def run(self) -> Never:
        """Look for ever."""
        while True:
            self.look()
            await self._clock.sleep(INTERVAL.total_seconds())

    def hear(self, target: KeyTarget, answer: _Heard) -> None:
        """Note what a vault, or whoever stood in its place, answered."""
        host = target.key.host
        self._vaults.asked(host)
        self._hear_of_identity(target.identity, host, answer)
        if _is_vaults_own(answer):
            self._end(Component.VAULTS)
        elif isinstance(answer, NoAnswer) and answer.reason in _SILENCES:
            self._silence = self._silence or Streak(self._clock)
            self._silence.add(host, answer.reason)

    def hear_time(self, host: VaultHost, ahead: timedelta) -> None:
        """Note how far our clock is ahead of a vault's (behind, when negative)."""
        if abs(ahead) <= self._bound:
            self._end(Component.CLOCK)
            return
        self._skew = self._skew or Streak(self._clock)
        self._skew.add(host, None)
        self._ahead = ahead

    def look(self) -> None:
        """Say what stands, and what stands no more."""
        standing = dict.fromkeys(OwnFault, 0)
        standing[OwnFault.TOKEN] = self._show_identities()
        silent = self._show_silence()
        if silent is not None:
            standing[silent] = 1
        standing[OwnFault.CLOCK] = self._show_clock()
        for fault, count in standing.items():
            self._metrics.own_faults.labels(fault).set(count)

    def _hear_of_identity(self, identity: IdentityName, host: VaultHost, answer: _Heard) -> None:
        if isinstance(answer, NoAnswer):
            missing = answer.reason is Reason.TOKEN_UNAVAILABLE and answer.evidence.code != "HostNotAllowed"
            if missing or answer.reason is Reason.UNAUTHORIZED:
                streak = self._identities.setdefault(identity, Streak(self._clock))
                streak.add(host, answer.reason, code=answer.evidence.code)
                if len(self._identities) > MOST_IDENTITIES:
                    self._identities.popitem(last=False)
        elif not (isinstance(answer, Refused) and answer.kind in _WITHOUT_TOKEN):
            self._end(Component.IDENTITIES, identity)

    def _end(self, component: Component, identity: IdentityName | None = None) -> None:
        """Take a counter-proof: trouble that was said is over at once."""
        self._proved.add(component)
        if identity is not None:
            ended = self._identities.pop(identity, None)
        elif component is Component.VAULTS:
            ended, self._silence = self._silence, None
        else:
            ended, self._skew = self._skew, None
        if ended is not None and ended.said:
            self.look()

    def _show_identities(self) -> int:
        for identity in [name for name, streak in self._identities.items() if streak.is_old]:
            del self._identities[identity]
        standing = [
            (identity, streak)
            for identity, streak in self._identities.items()
            if self._stands(streak, vaults=_vaults_to_say_it(streak))
        ]
        for _, streak in standing:
            streak.said = True
        if not standing:
            self._show_well(Component.IDENTITIES, is_open=bool(self._identities))
            return 0
        identity, streak = standing[0]
        gets = "gets no token" if streak.all_of(Reason.TOKEN_UNAVAILABLE) else "shows tokens that no vault takes"
        others = f"; so do {len(standing) - 1} more" if len(standing) > 1 else ""
        message = f"the identity {identity} {gets} since {streak.began_at}: {streak.code}{others}"
        self._health.trouble(Component.IDENTITIES, message, hint=f"{hint_of(streak.code)}; {_NOT_THE_KEYS}")
        return len(standing)

    def _show_silence(self) -> OwnFault | None:
        streak = self._silence = None if self._silence is None or self._silence.is_old else self._silence
        if streak is None or not self._stands(streak, vaults=None):
            self._show_well(Component.VAULTS, is_open=streak is not None)
            return None
        streak.said = True
        kinds = {_SILENCES[reason] for reason in streak.reasons if reason is not None}
        fault = kinds.pop() if len(kinds) == 1 else OwnFault.NETWORK
        words, hint = _WORDS[fault]
        reasons = ", ".join(sorted(str(reason) for reason in streak.reasons))
        message = f"{words} since {streak.began_at}: {reasons} ({streak.count_words} asked)"
        self._health.trouble(Component.VAULTS, message, hint=hint)
        return fault

    def _show_clock(self) -> int:
        streak = self._skew = None if self._skew is None or self._skew.is_old else self._skew
        if streak is None or not self._stands(streak, vaults=2):
            self._show_well(Component.CLOCK, is_open=streak is not None)
            return 0
        streak.said = True
        way = "ahead of" if self._ahead > timedelta(0) else "behind"
        message = f"this machine's clock is {abs(self._ahead).total_seconds():.0f} s {way} the vaults'"
        self._health.trouble(Component.CLOCK, message, hint=_CLOCK_HINT)
        return 1

    def _stands(self, streak: Streak, *, vaults: int | None) -> bool:
        """Whether it lasts, and befalls so many vaults (None: all that are asked, or all that had their turn)."""
        if streak.age < LASTING:
            return False
        asked = self._vaults.count
        if vaults is None:
            vaults = 2 if streak.age >= self._round else asked
        return streak.count >= min(vaults, asked)

    def _show_well(self, component: Component, *, is_open: bool) -> None:
        """Say that a component is well if that is known; what began a moment ago is neither well nor said yet."""
        known = self._health.conditions.get(component)
        if not is_open and (component in self._proved or (known is not None and not known.well)):
            self._health.well(component)


def _vaults_to_say_it(streak: Streak) -> int | None:
    """Say at how many vaults an identity must be in trouble; None: at all."""
    if not streak.all_of(Reason.TOKEN_UNAVAILABLE):
        return None
    # Entra ID's answer can be about one tenant, such as its conditional access; all else is the same for every tenant.
    return 2 if str(streak.code).startswith("AADSTS") else 1


def _is_vaults_own(answer: _Heard) -> bool:
    """Whether a vault itself said it: with its own headers, or by what only a vault can give."""
    if isinstance(answer, NoAnswer):
        return answer.evidence.request_id is not None
    return not (isinstance(answer, Refused) and answer.kind in _NOT_OF_THE_VAULT)


class HeardKeys:
    """A key service whose answers are listened to; see the port. It changes none of them."""

    def __init__(self, keys: KeyService, faults: OwnFaults) -> None:
        self._keys = keys
        self._faults = faults

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        """See `KeyService.get`."""
        return await self._heard(target, "get", self._keys.get(target))

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        """See `KeyService.wrap`."""
        return await self._heard(target, "wrapKey", self._keys.wrap(target, plaintext))

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        """See `KeyService.unwrap`."""
        return await self._heard(target, "unwrapKey", self._keys.unwrap(target, wrapped))

    async def _heard(self, target: KeyTarget, operation: str, call: Awaitable[_Answer]) -> _Answer:
        try:
            answer = await call
        except asyncio.CancelledError:
            # The caller's deadline, as far as anybody here can tell.
            self._faults.hear(target, NoAnswer(Reason.TIMED_OUT, Evidence(operation)))
            raise
        self._faults.hear(target, answer)
        return answer


class VaultTimes:
    """Hands on what time vaults say it is, from those who see it to whoever listens."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[VaultHost, timedelta], None]] = []

    def on_word(self, listen: Callable[[VaultHost, timedelta], None]) -> None:
        """Have a function called with a vault and how far our clock is ahead of it."""
        self._listeners.append(listen)

    def tell(self, host: VaultHost, ahead: timedelta) -> None:
        """Hand one on."""
        for listen in self._listeners:
            listen(host, ahead)
