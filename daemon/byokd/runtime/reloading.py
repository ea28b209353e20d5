"""Taking other settings while the daemon runs: whole or not at all."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Never

import structlog

from byokd.runtime.configuration import Mistake, SettingsInvalidError
from byokd.settings import NEEDS_RESTART, TAKEN_AT_ONCE, Settings

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a reload.

    Attributes:
        mistakes: why it was refused, every reason; none when the settings were taken.
        changed: the settings that are other ones now, such as `checks.interval`. Never their values.
    """

    mistakes: tuple[Mistake, ...] = ()
    changed: tuple[str, ...] = ()


class ReloadUnderWayError(Exception):
    """Another reload has not ended yet."""


class ChangeRefusedError(Exception):
    """The settings are good, but cannot be taken now. Nothing was changed."""


class Reloader:
    """Reads the settings again when it is asked to, and has them taken, one reload at a time."""

    def __init__(
        self,
        read: Callable[[], Settings],
        in_force: Settings,
        change_over: Callable[[Settings], Awaitable[None]],
    ) -> None:
        """Take the collaborators.

        Args:
            read: reads the settings; raises SettingsInvalidError. Called in a thread.
            in_force: those that the daemon started with.
            change_over: takes other settings; raises ChangeRefusedError when it cannot and has changed nothing. Any
                other error ends the daemon.
        """
        self._read = read
        self._in_force = in_force
        self._change_over = change_over
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[Reloaded] | None = None

    def begin(self) -> asyncio.Future[Reloaded]:
        """Ask for a reload; the result tells what became of it. Nobody has to wait for it.

        Raises:
            ReloadUnderWayError: one thing at a time.
        """
        if self._asked.is_set():
            raise ReloadUnderWayError
        self._asked.set()
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def signalled(self) -> None:
        """Ask for a reload, as SIGHUP does: only the log tells what became of it."""
        try:
            self.begin()
        except ReloadUnderWayError:
            _log.warning("reload-refused", mistakes=["another reload is under way"])

    async def run(self) -> Never:
        """Reload when asked, for ever."""
        while True:
            await self._asked.wait()
            outcome = await self._reload()
            if outcome.mistakes:
                _log.warning("reload-refused", mistakes=[f"{one.place}: {one.message}" for one in outcome.mistakes])
            else:
                _log.info("reloaded", changed=list(outcome.changed))
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(outcome)
            self._asked.clear()

    async def _reload(self) -> Reloaded:
        try:
            settings = await asyncio.to_thread(self._read)
            changed = differences(self._in_force, settings)
            fixed = [name for name in changed if needs_restart(name)]
            if fixed:
                return Reloaded(tuple(Mistake(name, "needs a restart to change") for name in fixed))
            await self._change_over(settings)
        except SettingsInvalidError as error:
            return Reloaded(error.mistakes)
        except ChangeRefusedError as refusal:
            return Reloaded((Mistake("reload", str(refusal)),))
        self._in_force = settings
        return Reloaded(changed=changed)


def differences(before: Settings, after: Settings) -> tuple[str, ...]:
    """Name the settings that differ: `section.name`, and `identities.name` for a whole identity."""
    names: list[str] = []
    for section in Settings.model_fields:
        one, other = _values(before, section), _values(after, section)
        names += [f"{section}.{name}" for name in {**one, **other} if one.get(name) != other.get(name)]
    return tuple(names)


def needs_restart(name: str) -> bool:
    """Whether a setting is read only when the daemon starts."""
    section = name.partition(".")[0]
    return name not in TAKEN_AT_ONCE and not NEEDS_RESTART.isdisjoint({name, section})


def _values(settings: Settings, section: str) -> dict[str, Any]:
    group: Any = getattr(settings, section)
    return dict(group)
