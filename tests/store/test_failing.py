"""Which vaults fail, kept over restarts."""

from datetime import timedelta

from byokd.domain.vocabulary import Reason
from byokd.records import Failing, HeldVault
from store.builders import KEY, Stage, at

FAILING = Failing(Reason.THROTTLED, timedelta(seconds=32), at(1))


async def test_how_a_vault_fails_is_given_back_as_it_was_until_it_answers(stage: Stage) -> None:
    await stage.create()
    held = HeldVault(KEY.host, 1)
    assert await stage.store.failing_vaults() == {}
    await stage.store.record_failing({held: FAILING})
    assert await stage.store.failing_vaults() == {KEY.host: FAILING}
    await stage.store.record_failing({held: None})
    assert await stage.store.failing_vaults() == {}


async def test_who_lost_a_vault_writes_nothing_of_it(stage: Stage) -> None:
    await stage.create()
    await stage.store.record_failing({HeldVault(KEY.host, 1): FAILING})
    await stage.store.claim_vaults("another")
    await stage.store.record_failing({HeldVault(KEY.host, 1): None})
    assert await stage.store.failing_vaults() == {KEY.host: FAILING}
    await stage.store.record_failing({HeldVault(KEY.host, 2): None})
    assert await stage.store.failing_vaults() == {}


async def test_nothing_to_write_is_nothing_written(stage: Stage) -> None:
    await stage.store.record_failing({})
    assert await stage.store.failing_vaults() == {}
