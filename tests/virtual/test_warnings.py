"""Warnings on the way: what is asked for them, what they cost, and where they show."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from byokd.domain.identifiers import KeyIdentifier, WatchId
from byokd.domain.verdict import WatchWarning
from byokd.domain.vocabulary import DetectedBy, WarningKind
from byokd.runtime import seldom
from byokd.runtime.registrar import Action
from byokd.runtime.seldom import EVERY, Seldom
from byokd.settings import Settings
from virtual.using import number
from virtual.vaults import Vault
from virtual.world import MINUTE, World, spec_of

pytestmark = pytest.mark.looptime(start=0, noop_cycles=2)

NEAR_EXPIRY = "byokd.key.near-expiry"
PURGE_PROTECTION_OFF = "byokd.key.purge-protection-off"
SOME = timedelta(minutes=5)
"""In place of an hour, which would be thousands of polls."""


async def warnings_of(world: World, key: KeyIdentifier) -> dict[WarningKind, WatchWarning]:
    return {warning.kind: warning for warning in (await world.watch(key)).warnings}


def unpinned_gets(vault: Vault) -> int:
    return len([call for call in vault.called("get") if call.version is None])


async def test_what_is_seldom_asked_is_asked_once_an_hour() -> None:
    assert timedelta(hours=1) == EVERY


async def test_a_newer_version_of_a_pinned_key_is_seldom_asked_for_and_never_adopted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seldom, "EVERY", SOME)
    vault, key = world.one_vault()
    pinned = key.at(vault.key().newest.id)
    async with world.running():
        (account,) = await world.register(pinned)
        await asyncio.sleep(2 * MINUTE)
        before = unpinned_gets(vault)
        assert before == 1, "the first look after the start"
        vault.rotate()
        await asyncio.sleep(5 * SOME.total_seconds())
        assert unpinned_gets(vault) - before in {3, 4}, "at the next check after that"
        warning = (await warnings_of(world, pinned))[WarningKind.PINNED_VERSION_SUPERSEDED]
        assert warning.version == vault.key().newest.id
        assert (await world.account(account)).current == pinned
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]
        assert world.bus.told_of_key(key) == []


async def test_an_operator_who_checks_is_told_of_a_newer_version_at_once(world: World) -> None:
    vault, key = world.one_vault()
    pinned = key.at(vault.key().newest.id)
    async with world.running():
        await world.register(pinned)
        await asyncio.sleep(2 * MINUTE)
        vault.rotate()
        checked = await world.service.scheduler.check_now((await world.watch(pinned)).id)
        assert checked is not None
        assert [warning.kind for warning in checked.decision.warnings] == [WarningKind.PINNED_VERSION_SUPERSEDED]


async def test_the_dates_of_a_version_that_is_not_the_newest_are_seen_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seldom, "EVERY", SOME)
    vault, key = world.one_vault()
    async with world.running():
        await world.register(key)
        await asyncio.sleep(2 * MINUTE)
        old = vault.key().newest
        vault.rotate()
        vault.change(enabled=False)
        old.expires = world.clock.now() + timedelta(days=3)
        gets = [call for call in vault.called("get") if call.version == old.id]
        assert gets == []
        await asyncio.sleep(3 * SOME.total_seconds())
        assert set(await warnings_of(world, key)) == {WarningKind.NEWEST_VERSION_UNUSABLE, WarningKind.NEAR_EXPIRY}
        assert len([call for call in vault.called("get") if call.version == old.id]) in {2, 3}
        assert len(world.told_of_key(key, NEAR_EXPIRY)) == 1


async def test_near_expiry_is_told_once_for_each_date_over_restarts_and_becomes_expiry(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        expires = (world.clock.now() + timedelta(minutes=10)).replace(microsecond=0)
        vault.change(expires=expires)
        for _ in range(3):
            await asyncio.sleep(2 * MINUTE)
            await world.restart()
        (told,) = world.told_of_key(key, NEAR_EXPIRY)
        assert told["data"]["expiresAt"] == expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        vault.change(expires=expires + timedelta(minutes=2))
        await asyncio.sleep(2 * MINUTE)
        assert len(world.told_of_key(key, NEAR_EXPIRY)) == 2
        assert number(world, "byokd_warnings", kind="NearExpiry") == 1
        await asyncio.sleep(6 * MINUTE)
        assert set(await warnings_of(world, key)) == {WarningKind.KEY_EXPIRED}
        assert len(world.told_of_key(key, "byokd.key.expired")) == 1
        assert number(world, "byokd_warnings", kind="NearExpiry") == 0
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]


async def test_purge_protection_that_is_off_is_reported_at_registration_where_it_is_not_required(
    make_world: Callable[..., World],
) -> None:
    settings = Settings()
    lenient = settings.vaults.model_copy(update={"require_purge_protection": False})
    world = make_world(settings=settings.model_copy(update={"vaults": lenient}))
    vault, key = world.one_vault()
    vault.key().recovery_level = "Recoverable+Purgeable"
    async with world.running():
        for count in (1, 2):
            result = await world.service.registrar.apply(spec_of(count, key))
            assert result.action is Action.CREATED
            assert [warning.partition(":")[0] for warning in result.warnings] == ["PurgeProtectionOff"]
            await asyncio.sleep(2 * MINUTE)
        assert set(await warnings_of(world, key)) == {WarningKind.PURGE_PROTECTION_OFF}
        assert len(world.told_of_key(key, PURGE_PROTECTION_OFF)) == 1
        vault.key().recovery_level = "Recoverable"
        await asyncio.sleep(2 * MINUTE)
        assert await warnings_of(world, key) == {}


async def test_what_is_lost_after_registration_is_told_and_costs_nobody_anything(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        await asyncio.sleep(2 * MINUTE)
        assert world.bus.told_of_key(key) == []
        vault.key().recovery_level = "Recoverable+Purgeable"
        await asyncio.sleep(2 * MINUTE)
        vault.revoke("get")
        for _ in range(2):
            await asyncio.sleep(2 * MINUTE)
            await world.restart()
        assert [event["type"] for event in world.bus.told_of_key(key)] == [PURGE_PROTECTION_OFF]
        assert set(await warnings_of(world, key)) == {WarningKind.PURGE_PROTECTION_OFF, WarningKind.NEW_VERSIONS_UNSEEN}
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]


async def test_a_key_that_loses_wrap_key_goes_on_and_is_told_of(world: World) -> None:
    vault, key = world.one_vault()
    async with world.running():
        (account,) = await world.register(key)
        vault.change(operations=frozenset({"unwrapKey"}))
        for _ in range(2):
            await asyncio.sleep(2 * MINUTE)
            await world.restart()
        assert [event["type"] for event in world.bus.told_of_key(key)] == ["byokd.key.wrap-not-permitted"]
        assert number(world, "byokd_warnings", kind="WrapNotPermitted") == 1
        assert [event["type"] for event in world.told(account)] == ["byokd.account.created"]
        vault.change(operations=frozenset({"wrapKey", "unwrapKey"}))
        await asyncio.sleep(2 * MINUTE)
        assert await warnings_of(world, key) == {}


async def test_what_is_seldom_asked_is_forgotten_with_its_watch(world: World) -> None:
    asking = Seldom(world.clock)
    for watch in range(1000):
        assert asking.takes_turn(WatchId(watch), detected_by=DetectedBy.POLL)
        assert not asking.takes_turn(WatchId(watch), detected_by=DetectedBy.HINT)
    assert asking.takes_turn(WatchId(1), detected_by=DetectedBy.OPERATOR)
    for _ in range(4):
        await asyncio.sleep(EVERY.total_seconds())
        assert asking.takes_turn(WatchId(1), detected_by=DetectedBy.POLL)
    assert len(asking._asked_at) == 1
