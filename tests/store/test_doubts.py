"""Which versions are in doubt: those that are suspected, held or unverified, and no others."""

from byokd.domain.verdict import Suspicion, Unverified
from byokd.records import Doubt
from store.builders import KEY, Stage, denial, suspicion, unverified, version


async def test_nothing_is_in_doubt_while_all_is_well_or_denied(stage: Stage) -> None:
    await stage.create(1)
    assert await stage.store.doubts() == {}
    await stage.decide(**denial())
    assert await stage.store.doubts() == {}


async def test_what_is_in_doubt_is_told_by_version(stage: Stage) -> None:
    pinned = KEY.at(version(1))
    await stage.create(1)
    await stage.create(2, key=pinned)
    await stage.decide(**suspicion(await stage.watch()))
    await stage.decide(pinned, **unverified())
    first, second = (await stage.watch()).current, (await stage.watch(pinned)).current
    found = await stage.store.doubts()
    assert set(found) == {first, second}
    assert isinstance(found[first].suspicion, Suspicion)
    assert found[first].unverified is None
    assert isinstance(found[second].unverified, Unverified)
    assert found[second].suspicion is None
    verdict = (await stage.watch()).current_version.verdict
    assert found[first] == Doubt(verdict.suspicion, None)
