"""Taking other settings: whole or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from byokd.runtime.configuration import Mistake, SettingsInvalidError
from byokd.runtime.reloading import (
    ChangeRefusedError,
    Reloaded,
    Reloader,
    ReloadUnderWayError,
    differences,
    needs_restart,
)
from byokd.settings import NEEDS_RESTART, TAKEN_AT_ONCE, Settings

BEFORE = Settings()


def other(section: str, **changes: object) -> Settings:
    return Settings.model_validate({section: changes})


class Place:
    """Where settings are read from and taken to."""

    def __init__(self) -> None:
        self.found: Settings | Exception = BEFORE
        self.taken: list[Settings] = []
        self.refusal: Exception | None = None

    def read(self) -> Settings:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def take(self, settings: Settings) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.taken.append(settings)


@asynccontextmanager
async def reloading(place: Place) -> AsyncIterator[Reloader]:
    reloader = Reloader(place.read, BEFORE, place.take)
    running = asyncio.create_task(reloader.run())
    yield reloader
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_good_settings_are_taken_and_named_and_are_what_the_next_reload_compares_with() -> None:
    place = Place()
    async with reloading(place) as reloader:
        place.found = Settings.model_validate(
            {"checks": {"interval": "2 s"}, "identities": {"platform": {}}, "store": {"history_retention": "1 d"}}
        )
        changed = ("store.history_retention", "identities.platform", "checks.interval")
        assert await reloader.begin() == Reloaded(changed=changed)
        assert await reloader.begin() == Reloaded()
    assert place.taken == [place.found, place.found]


async def test_bad_settings_are_refused_with_every_mistake() -> None:
    place, mistakes = Place(), (Mistake("here", "wrong"), Mistake("there", "wrong too"))
    place.found = SettingsInvalidError(mistakes)
    async with reloading(place) as reloader:
        assert await reloader.begin() == Reloaded(mistakes)
    assert place.taken == []


async def test_what_needs_a_restart_is_named_and_the_rest_is_not_taken_either() -> None:
    place = Place()
    place.found = Settings.model_validate({"checks": {"interval": "2 s"}, "http": {"listen": "127.0.0.1:1"}})
    async with reloading(place) as reloader:
        assert await reloader.begin() == Reloaded((Mistake("http.listen", "needs a restart to change"),))
    assert place.taken == []


async def test_what_cannot_be_taken_now_leaves_the_old_settings_in_force() -> None:
    place = Place()
    place.found, place.refusal = other("checks", interval="2 s"), ChangeRefusedError("busy")
    async with reloading(place) as reloader:
        assert (await reloader.begin()).mistakes == (Mistake("reload", "busy"),)
        place.refusal = None
        assert (await reloader.begin()).changed == ("checks.interval",)


async def test_one_reload_at_a_time() -> None:
    async with reloading(Place()) as reloader:
        first = reloader.begin()
        with pytest.raises(ReloadUnderWayError):
            reloader.begin()
        reloader.signalled()
        assert await first == Reloaded()


def test_what_needs_a_restart_is_a_setting() -> None:
    names = {f"{section}.{name}" for section in Settings.model_fields for name in dict(getattr(BEFORE, section))}
    assert names >= {*TAKEN_AT_ONCE, *(name for name in NEEDS_RESTART if "." in name)}
    assert Settings.model_fields.keys() >= {name for name in NEEDS_RESTART if "." not in name}
    assert {name for name in names if needs_restart(name)} >= {
        "store.url",
        "service.instance",
        "service_keys.directory",
    }
    assert not needs_restart("service.log_level")


def test_no_difference_names_a_value() -> None:
    assert differences(BEFORE, other("mqtt", username="somebody")) == ("mqtt.username",)
