"""The life of keys through the real SDK: made, listed, changed, rotated, deleted, recovered, purged."""

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.keys import KeyType
from azure.keyvault.keys.aio import KeyClient

from byokd.emulator import Emulator, Permission
from emulator.support import KEY, VAULT, Clock, Wire


@pytest.fixture
async def owner(vault: Emulator, keys: KeyClient) -> KeyClient:
    """The client of someone who may do everything."""
    await vault.control.grant(VAULT, permissions=list(Permission))
    return keys


@pytest.mark.parametrize(("size", "kty"), [(2048, "RSA"), (3072, "RSA-HSM"), (4096, "RSA")])
async def test_rsa_keys_are_made_in_the_sizes_of_the_service(owner: KeyClient, size: int, kty: str) -> None:
    key = await owner.create_rsa_key("made", size=size, hardware_protected=kty == "RSA-HSM")
    assert key.key_type == kty
    assert len(key.key.n) * 8 == size
    assert key.key.e == b"\x01\x00\x01"
    assert key.key_operations == ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
    assert (await owner.get_key("made")).id == key.id


@pytest.mark.parametrize("size", [1024, 2056])
async def test_other_sizes_are_refused_by_the_service_and_made_by_the_control_api(
    vault: Emulator, owner: KeyClient, size: int
) -> None:
    with pytest.raises(HttpResponseError) as caught:
        await owner.create_rsa_key("odd", size=size)
    assert (caught.value.status_code, caught.value.error.code) == (400, "BadParameter")
    await vault.control.create_key(VAULT, "odd", size=size)
    assert len((await owner.get_key("odd")).key.n) * 8 == size


async def test_ec_keys_are_made_but_wrap_nothing(owner: KeyClient, wire: Wire) -> None:
    key = await owner.create_ec_key("curved", curve="P-384")
    assert (key.key_type, key.key.crv, len(key.key.x)) == (KeyType.ec, "P-384", 48)
    assert (await wire.wrap(b"x" * 32, key="curved")).status == 403


async def test_attributes_tell_creation_recovery_and_nothing_that_is_unset(wire: Wire, vault: Emulator) -> None:
    now = int(vault.world.clock())
    seen = await wire.send("GET", f"/keys/{KEY}/")
    assert seen.body["attributes"] == {
        "enabled": True,
        "created": now,
        "updated": now,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
        "exportable": False,
        "hsmPlatform": "0",
    }
    assert set(seen.body["key"]) == {"kid", "kty", "key_ops", "n", "e"}


@pytest.mark.parametrize(
    ("days", "level", "purge"),
    [
        (90, "Recoverable+Purgeable", 204),
        (90, "Recoverable", 403),
        (7, "CustomizedRecoverable+Purgeable", 204),
        (7, "CustomizedRecoverable", 403),
    ],
)
async def test_recovery_level_tells_whether_a_key_can_be_purged(
    emulator: Emulator, wire: Wire, days: int, level: str, purge: int
) -> None:
    await emulator.control.create_vault("levels", soft_delete_days=days, purge_protection=purge == 403)
    await emulator.control.create_key("levels", KEY)
    await emulator.control.grant("levels", permissions=list(Permission))
    shown = (await wire.send("GET", f"/keys/{KEY}", vault="levels")).body["attributes"]
    assert (shown["recoveryLevel"], shown["recoverableDays"]) == (level, days)
    await wire.send("DELETE", f"/keys/{KEY}", vault="levels")
    assert (await wire.send("DELETE", f"/deletedkeys/{KEY}", vault="levels")).status == purge


async def test_versions_are_listed_in_pages(vault: Emulator, owner: KeyClient) -> None:
    made = [(await vault.control.key(VAULT, KEY))["newest"]]
    made += [(await vault.control.rotate_key(VAULT, KEY))["newest"] for _ in range(30)]
    pages = [[one.version async for one in page] async for page in owner.list_properties_of_key_versions(KEY).by_page()]
    assert [len(page) for page in pages] == [25, 6]
    assert [one for page in pages for one in page] == made


async def test_keys_and_deleted_keys_are_listed(vault: Emulator, owner: KeyClient) -> None:
    await vault.control.create_key(VAULT, "second")
    assert sorted([one.name async for one in owner.list_properties_of_keys()]) == [KEY, "second"]
    await vault.control.delete_key(VAULT, "second")
    assert [one.name async for one in owner.list_properties_of_keys()] == [KEY]
    assert [one.name async for one in owner.list_deleted_keys()] == ["second"]


async def test_rotation_makes_a_new_newest_version_of_the_same_kind(owner: KeyClient) -> None:
    made = await owner.create_rsa_key("turning", size=3072)
    rotated = await owner.rotate_key("turning")
    assert rotated.properties.version != made.properties.version
    assert len(rotated.key.n) == len(made.key.n)
    assert rotated.key.n != made.key.n
    assert (await owner.get_key("turning")).id == rotated.id


async def test_attributes_are_changed_one_by_one(owner: KeyClient) -> None:
    first = await owner.get_key(KEY)
    changed = await owner.update_key_properties(KEY, enabled=False, tags={"team": "video"})
    assert (changed.properties.enabled, changed.properties.tags) == (False, {"team": "video"})
    changed = await owner.update_key_properties(KEY, first.properties.version, key_operations=["wrapKey"])
    assert (changed.properties.enabled, changed.properties.tags) == (False, {"team": "video"})
    assert changed.key_operations == ["wrapKey"]


async def test_deleted_key_can_be_seen_recovered_and_used_again(owner: KeyClient, wire: Wire) -> None:
    wrapped = await wire.wrapped(b"w" * 32)
    assert (await owner.delete_key(KEY)).recovery_id == f"https://{VAULT}.vault.azure.net/deletedkeys/{KEY}"
    deleted = await owner.get_deleted_key(KEY)
    assert (deleted.scheduled_purge_date - deleted.deleted_date).days == 90
    with pytest.raises(ResourceNotFoundError):
        await owner.get_key(KEY)
    await owner.recover_deleted_key(KEY)
    seen = await wire.wrap(wrapped, operation="unwrapKey")
    assert seen.status == 200


async def test_name_of_a_deleted_key_is_taken_until_it_is_purged(owner: KeyClient) -> None:
    await owner.delete_key(KEY)
    with pytest.raises(ResourceExistsError) as caught:
        await owner.create_rsa_key(KEY)
    assert caught.value.error.innererror == {"code": "ObjectIsDeletedButRecoverable"}
    await owner.purge_deleted_key(KEY)
    with pytest.raises(ResourceNotFoundError):
        await owner.get_deleted_key(KEY)
    assert (await owner.create_rsa_key(KEY)).name == KEY


async def test_name_of_a_key_whose_deletion_runs_is_taken(vault: Emulator, owner: KeyClient, clock: Clock) -> None:
    await vault.control.change_vault(VAULT, settle_seconds=10)
    await vault.control.delete_key(VAULT, KEY)
    with pytest.raises(ResourceExistsError) as caught:
        await owner.create_rsa_key(KEY)
    assert caught.value.error.innererror == {"code": "ObjectIsBeingDeleted"}
    clock.advance(10)
    assert (await owner.get_deleted_key(KEY)).name == KEY


async def test_key_names_are_found_in_any_case(owner: KeyClient) -> None:
    assert (await owner.get_key(KEY.upper())).name == KEY


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"/keys/{KEY}//wrapkey", {"alg": "RSA-OAEP-256", "value": "!!"}, 400),
        ("POST", f"/keys/{KEY}//wrapkey", {"alg": "A256KW", "value": "AAAA"}, 400),
        ("POST", f"/keys/{KEY}//wrapkey", {"alg": "RSA-OAEP-256", "value": "A" * 600}, 400),
        ("POST", f"/keys/{KEY}//wrapkey", {"alg": "RSA-OAEP-256"}, 400),
        ("POST", f"/keys/{KEY}//unwrapkey", {"alg": "RSA-OAEP-256", "value": "AAAA"}, 400),
        ("POST", f"/keys/{KEY}//wrapkey", ["no object"], 400),
        ("POST", "/keys/made/create", {"kty": "oct"}, 400),
        ("POST", "/keys/made/create", {"kty": "RSA", "attributes": {"exp": "soon"}}, 400),
        ("GET", f"/keys/{KEY}/versions?maxresults=26", None, 400),
        ("POST", f"/keys/{KEY}//encrypt", {}, 405),
    ],
)
async def test_wrong_requests_are_refused(
    vault: Emulator, wire: Wire, method: str, path: str, body: object, status: int
) -> None:
    await vault.control.grant(VAULT, permissions=list(Permission))
    assert (await wire.send(method, path, body)).status == status


@pytest.mark.usefixtures("vault")
async def test_api_version_must_be_named(wire: Wire) -> None:
    assert (await wire.send("GET", f"/keys/{KEY}", version=None)).codes == ("BadParameter", None)
