"""Whom else to ask about a denial."""

from dataclasses import replace

from byokd.domain.identifiers import TenantId, VaultHost, WatchId
from byokd.domain.verdict import Verdict, Watch
from byokd.runtime.second_opinions import others
from domain.scenes import FRESH, NOW, after, denied, inaccessible, watch

SUSPECTED = after(FRESH, (denied(), NOW))


def of(number: int, *verdicts: Verdict) -> Watch:
    one = watch(*verdicts)
    key = replace(one.key, host=VaultHost(f"customer{number}.vault.azure.net"))
    return replace(one, id=WatchId(number), tenant=TenantId(f"{number:08x}-0000-0000-0000-000000000000"), key=key)


def test_who_has_a_version_that_is_well_is_asked_whatever_his_other_versions_are() -> None:
    watches = [of(2, inaccessible(), FRESH), of(3, inaccessible()), of(4, SUSPECTED, SUSPECTED), of(5, FRESH)]
    assert [one.id for one in others(of(1, SUSPECTED), watches)] == [WatchId(2), WatchId(5)]
