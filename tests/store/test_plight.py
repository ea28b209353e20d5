"""What a look from outside tells of trouble, on every database."""

from dataclasses import replace
from datetime import timedelta

from byokd.adapters.sql.plight import plight
from byokd.domain.vocabulary import Reason
from byokd.ports.examining import AccountsAlike, Plight
from byokd.records import Failing, HeldVault
from store.builders import KEY, Stage, at, denial, suspicion, unverified, version
from store.test_damage import damage


async def look(stage: Stage) -> Plight:
    return await stage.store._runner.read(plight)


def alike(found: Plight) -> set[AccountsAlike]:
    return set(found.accounts)


async def test_an_empty_database_has_no_plight(stage: Stage) -> None:
    found = await look(stage)
    assert (found.accounts, found.refusing, found.failing) == ((), {}, {})
    assert found.brake.brake.engagement is None


async def test_accounts_are_counted_by_what_is_amiss_with_them_and_vaults_named(stage: Stage) -> None:
    pinned, other = KEY.at(version(1)), replace(KEY, name="other")
    for number, key in ((1, KEY), (2, KEY), (3, pinned), (4, other), (5, None)):
        await stage.create(number, key=key)
    assert alike(await look(stage)) == {AccountsAlike(5, None, None, False, None, False)}  # noqa: FBT003 - columns
    await stage.decide(**suspicion(await stage.watch()))
    await stage.decide(pinned, **denial(Reason.KEY_DISABLED))
    await stage.decide(other, **unverified())
    await stage.store.follow(limit=10, now=at(2))
    await damage(stage, 5)
    found = await look(stage)
    assert alike(found) == {
        AccountsAlike(2, None, Reason.ACCESS_DENIED, False, None, False),  # noqa: FBT003 - columns
        AccountsAlike(1, Reason.KEY_DISABLED, None, False, None, False),  # noqa: FBT003 - columns
        AccountsAlike(1, None, None, False, Reason.TIMED_OUT, False),  # noqa: FBT003 - columns
        AccountsAlike(1, None, None, False, None, True),  # noqa: FBT003 - columns
    }
    assert found.refusing == {Reason.ACCESS_DENIED: (KEY.host,), Reason.KEY_DISABLED: (KEY.host,)}


async def test_an_account_closed_for_want_of_an_answer_is_refused_by_nobody(stage: Stage) -> None:
    await stage.create(1)
    await stage.decide(**denial(Reason.UNVERIFIED))
    await stage.store.follow(limit=10, now=at(2))
    found = await look(stage)
    assert ([one.denied for one in found.accounts], found.refusing) == ([Reason.UNVERIFIED], {})


async def test_vaults_that_fail_are_told_with_when_they_are_tried_again(stage: Stage) -> None:
    await stage.create(1)
    failing = Failing(Reason.THROTTLED, timedelta(seconds=4), at(3))
    await stage.store.record_failing({HeldVault(KEY.host, (await stage.watch()).epoch): failing})
    assert (await look(stage)).failing == {KEY.host: failing}
