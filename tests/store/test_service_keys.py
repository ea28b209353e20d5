import pytest

from byokd.ports import StaleError
from store.builders import Stage

FIRST = {("system", "1"): b"check 1", ("storage", "1"): b"check 2"}


async def test_check_values_are_kept(stage: Stage) -> None:
    assert await stage.store.service_key_checks() == {}
    await stage.store.record_service_key_checks({})
    await stage.store.record_service_key_checks(FIRST)
    assert await stage.store.service_key_checks() == FIRST


async def test_missing_check_values_are_added_to_known_ones(stage: Stage) -> None:
    await stage.store.record_service_key_checks(FIRST)
    added = {("system", "2"): b"check 3", ("system", "1"): b"check 1"}
    await stage.store.record_service_key_checks(added)
    assert await stage.store.service_key_checks() == FIRST | added


async def test_another_value_under_a_known_id_is_refused_whole(stage: Stage) -> None:
    await stage.store.record_service_key_checks(FIRST)
    with pytest.raises(StaleError, match=r"system\.1") as refused:
        await stage.store.record_service_key_checks({("system", "2"): b"check 3", ("system", "1"): b"another"})
    assert "another" not in str(refused.value)
    assert await stage.store.service_key_checks() == FIRST
