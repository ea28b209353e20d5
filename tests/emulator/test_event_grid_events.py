"""What Event Grid tells of a vault, and what it does not tell."""

from datetime import datetime
from typing import Any, Unpack

import pytest

from byokd.emulator import ControlError, Dialect, Emulator, Permission
from byokd.emulator.subscription_documents import SubscriptionOptions
from byokd.emulator.vocabulary import Access, Network
from byokd.emulator.world import SUBSCRIPTION
from emulator.receiver import Receiver
from emulator.support import KEY, VAULT, Clock, Wire

CLOUD = "CloudEventSchemaV1_0"
DAY = 86_400
NEW, NEAR, OVER = (f"Microsoft.KeyVault.Key{word}" for word in ("NewVersionCreated", "NearExpiry", "Expired"))
POLICY = "Microsoft.KeyVault.VaultAccessPolicyChanged"
RESOURCE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/emulator/providers/Microsoft.KeyVault/vaults/{VAULT}"


async def subscribed(emulator: Emulator, receiver: Receiver, **options: Unpack[SubscriptionOptions]) -> None:
    """One request at a time, so that events arrive in their order and the last one marks the end."""
    await emulator.control.create_subscription(VAULT, "to-byokd", receiver.url, parallel=1, **options)


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["eventType"], one["subject"]) for one in events]


async def test_every_way_to_a_new_version_is_told(vault: Emulator, receiver: Receiver, wire: Wire) -> None:
    await vault.control.grant(VAULT, permissions=[Permission.CREATE, Permission.ROTATE])
    await subscribed(vault, receiver)
    made = [
        await vault.control.create_key(VAULT, "first-of-control"),
        await vault.control.rotate_key(VAULT, KEY),
        await vault.control.rotate_key(VAULT, KEY, size=3072),
    ]
    first = await wire.send("POST", "/keys/first-of-data/create", {"kty": "RSA"})
    rotated = await wire.send("POST", f"/keys/{KEY}/rotate")
    identifiers = [one["versions"][-1]["kid"] for one in made] + [one.body["key"]["kid"] for one in (first, rotated)]
    events = await receiver.events(5)
    assert [one["data"]["Id"] for one in events] == identifiers
    assert kinds(events) == [(NEW, name) for name in ("first-of-control", KEY, KEY, "first-of-data", KEY)]


async def test_event_in_event_grid_schema(vault: Emulator, receiver: Receiver, clock: Clock) -> None:
    await subscribed(vault, receiver)
    expires = int(clock.now) + 365 * DAY
    made = (await vault.control.rotate_key(VAULT, KEY, exp=expires))["versions"][-1]
    (got,) = await receiver.got(1)
    (event,) = got.body
    assert event.pop("id") == got.headers["aeg-output-event-id"]
    assert datetime.fromisoformat(event.pop("eventTime")).timestamp() == pytest.approx(clock.now, abs=1e-5)
    assert event == {
        "topic": RESOURCE,
        "subject": KEY,
        "eventType": NEW,
        "data": {
            "Id": made["kid"],
            "VaultName": VAULT,
            "ObjectType": "Key",
            "ObjectName": KEY,
            "Version": made["version"],
            "NBF": None,
            "EXP": expires,
        },
        "dataVersion": "1",
        "metadataVersion": "1",
    }


async def test_cloud_event_is_one_object(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver, schema=CLOUD)
    await vault.control.rotate_key(VAULT, KEY)
    (got,) = await receiver.got(1)
    expected = {"specversion": "1.0", "type": NEW, "source": RESOURCE, "subject": KEY}
    assert {name: got.body[name] for name in expected} == expected
    assert set(got.body) == {*expected, "id", "time", "data"}
    assert got.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert got.headers["Origin"] == "eventgrid.azure.net"


async def test_data_can_be_spelled_as_in_the_sample(vault: Emulator, receiver: Receiver) -> None:
    await vault.control.set_dialects({Dialect.EVENTS_AS_IN_THE_SAMPLE: True})
    await subscribed(vault, receiver)
    made = (await vault.control.rotate_key(VAULT, KEY, exp=4_000_000_000))["versions"][-1]
    (event,) = await receiver.events(1)
    assert event["data"]["ObjectName "] == KEY
    assert "ObjectName" not in event["data"]
    assert (event["data"]["Version"], event["data"]["EXP"]) == (f" {made['version']}", "4000000000")


async def test_expiry_is_told_once_by_the_emulators_clock(vault: Emulator, receiver: Receiver, clock: Clock) -> None:
    await subscribed(vault, receiver, event_types=[NEAR, OVER])
    expires = int(clock.now) + 40 * DAY
    await vault.control.change_key(VAULT, KEY, exp=expires)
    clock.advance(9 * DAY)
    await vault.control.change_key(VAULT, KEY, tags={"looked": "once"})
    assert receiver.deliveries == []
    clock.advance(2 * DAY)
    (near,) = await receiver.events(1)
    clock.advance(30 * DAY)
    _, over = await receiver.events(2)
    assert kinds([near, over]) == [(NEAR, KEY), (OVER, KEY)]
    assert near["data"]["EXP"] == over["data"]["EXP"] == expires
    for _ in range(3):
        await vault.control.change_key(VAULT, KEY, tags={})
    await vault.control.change_key(VAULT, KEY, exp=expires - 1)
    again = (await receiver.events(3))[2]
    assert (again["eventType"], again["data"]["EXP"]) == (OVER, expires - 1)


async def test_times_set_by_the_data_plane_or_anew_are_told_of(
    vault: Emulator, receiver: Receiver, wire: Wire, clock: Clock
) -> None:
    await vault.control.grant(VAULT, permissions=[Permission.UPDATE])
    await subscribed(vault, receiver, event_types=[NEAR, OVER])
    past = int(clock.now) - 1
    assert (await wire.send("PATCH", f"/keys/{KEY}", {"attributes": {"exp": past}})).status == 200
    assert kinds(await receiver.events(1)) == [(OVER, KEY)]
    await vault.control.change_key(VAULT, KEY, exp=None)
    await vault.control.change_key(VAULT, KEY, exp=past)
    assert kinds(await receiver.events(2)) == [(OVER, KEY)] * 2


async def test_expiry_is_of_the_newest_version_of_a_key_that_is_there(
    vault: Emulator, receiver: Receiver, clock: Clock
) -> None:
    await subscribed(vault, receiver, event_types=[NEAR, OVER])
    soon = int(clock.now) + 31 * DAY
    await vault.control.change_key(VAULT, KEY, exp=soon)
    await vault.control.rotate_key(VAULT, KEY)
    await vault.control.create_key(VAULT, "deleted", exp=soon)
    await vault.control.delete_key(VAULT, "deleted")
    clock.advance(2 * DAY)
    await vault.control.create_key(VAULT, "fence", exp=soon)
    assert kinds(await receiver.events(1)) == [(NEAR, "fence")]
    await vault.control.recover_key(VAULT, "deleted")
    assert kinds(await receiver.events(2)) == [(NEAR, "fence"), (NEAR, "deleted")]


async def test_nothing_is_told_of_deletion_disabling_recovery_or_purge(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver)
    await vault.control.disable_key(VAULT, KEY)
    await vault.control.enable_key(VAULT, KEY)
    await vault.control.delete_key(VAULT, KEY)
    await vault.control.recover_key(VAULT, KEY)
    await vault.control.delete_key(VAULT, KEY)
    await vault.control.purge_key(VAULT, KEY)
    await vault.control.grant(VAULT)
    await vault.control.revoke(VAULT)
    await vault.control.change_vault(VAULT, network=Network.FIREWALL)
    await vault.control.delete_vault(VAULT)
    await vault.control.recover_vault(VAULT)
    await vault.control.create_key(VAULT, "fence")
    assert kinds(await receiver.events(1)) == [(NEW, "fence")]
    assert len(receiver.deliveries) == 1


async def test_access_policies_are_told_of_where_a_vault_goes_by_them(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver)
    await vault.control.change_vault(VAULT, access=Access.POLICIES)
    await vault.control.grant(VAULT)
    await vault.control.revoke(VAULT)
    events = await receiver.events(3)
    assert kinds(events) == [(POLICY, VAULT)] * 3
    assert (events[0]["data"]["VaultName"], events[0]["data"]["Version"]) == (VAULT, None)


async def test_arm_tells_of_the_vault_and_of_role_assignments(vault: Emulator, receiver: Receiver) -> None:
    await subscribed(vault, receiver, topic="resources")
    await vault.control.rotate_key(VAULT, KEY)
    await vault.control.grant(VAULT, key=KEY)
    await vault.control.revoke(VAULT, key=KEY)
    await vault.control.set_reader(VAULT)
    await vault.control.set_reader(VAULT, present=False)
    await vault.control.change_vault(VAULT, settle_seconds=0)
    await vault.control.change_vault(VAULT, network=Network.FIREWALL)
    await vault.control.change_vault(VAULT, access=Access.POLICIES)
    await vault.control.grant(VAULT)
    await vault.control.delete_vault(VAULT)
    await vault.control.recover_vault(VAULT)
    await vault.control.delete_vault(VAULT)
    await vault.control.purge_vault(VAULT)
    events = await receiver.events(11)
    seen = [
        (one["eventType"].removeprefix("Microsoft.Resources.Resource"), one["data"]["operationName"]) for one in events
    ]
    assignments, its = "Microsoft.Authorization/roleAssignments", "Microsoft.KeyVault/vaults"
    assert seen == [
        ("WriteSuccess", f"{assignments}/write"),
        ("DeleteSuccess", f"{assignments}/delete"),
        ("WriteSuccess", f"{assignments}/write"),
        ("DeleteSuccess", f"{assignments}/delete"),
        ("WriteSuccess", f"{its}/write"),
        ("WriteSuccess", f"{its}/write"),
        ("WriteSuccess", f"{its}/accessPolicies/write"),
        ("DeleteSuccess", f"{its}/delete"),
        ("WriteSuccess", f"{its}/write"),
        ("DeleteSuccess", f"{its}/delete"),
        ("ActionSuccess", "Microsoft.KeyVault/locations/deletedVaults/purge/action"),
    ]
    resources = [one["data"]["resourceUri"] for one in events]
    assert resources[0] == resources[1]
    assert resources[0].startswith(f"{RESOURCE}/keys/{KEY}/providers/{assignments}/")
    assert resources[2].startswith(f"{RESOURCE}/providers/{assignments}/")
    assert resources[4] == resources[7] == RESOURCE
    assert {one["topic"] for one in events} == {f"/subscriptions/{SUBSCRIPTION}"}
    with pytest.raises(ControlError, match="no vault named"):
        await vault.control.subscriptions(VAULT)


async def test_subscription_hears_of_its_vault_and_its_types_only(vault: Emulator, receiver: Receiver) -> None:
    await vault.control.create_vault("fabrikam")
    await subscribed(vault, receiver, event_types=[POLICY])
    await vault.control.create_key("fabrikam", KEY)
    await vault.control.rotate_key(VAULT, KEY)
    await vault.control.change_vault("fabrikam", access=Access.POLICIES)
    await vault.control.change_vault(VAULT, access=Access.POLICIES)
    assert kinds(await receiver.events(1)) == [(POLICY, VAULT)]
    assert len(receiver.deliveries) == 1
