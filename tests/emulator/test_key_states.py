"""What each state of a key answers: the table in docs/emulator.md, asked on the wire and through the SDK."""

from collections.abc import Awaitable, Callable

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import KeyWrapAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient

from byokd.emulator import Dialect, Emulator
from byokd.emulator.material import encode
from emulator.support import KEY, VAULT, Clock, Wire

PROBE = bytes(range(32))
OK, NOT_FOUND = (200, None, None), (404, "KeyNotFound", None)
BARE = (403, "Forbidden", None)
DISABLED = (403, "Forbidden", "KeyDisabled")
NOT_PERMITTED = (403, "Forbidden", "KeyOperationForbidden")

Change = Callable[[Emulator, Clock], Awaitable[object]]


async def leave(_: Emulator, __: Clock) -> None:
    return None


async def disable(emulator: Emulator, _: Clock) -> None:
    await emulator.control.disable_key(VAULT, KEY)


async def expire(emulator: Emulator, clock: Clock) -> None:
    await emulator.control.change_key(VAULT, KEY, exp=int(clock.now) + 10)
    clock.advance(10)


async def postpone(emulator: Emulator, clock: Clock) -> None:
    await emulator.control.change_key(VAULT, KEY, nbf=int(clock.now) + 10)


async def forbid_unwrap(emulator: Emulator, _: Clock) -> None:
    await emulator.control.change_key(VAULT, KEY, key_ops=["wrapKey"])


async def forbid_wrap(emulator: Emulator, _: Clock) -> None:
    await emulator.control.change_key(VAULT, KEY, key_ops=["unwrapKey"])


async def delete(emulator: Emulator, _: Clock) -> None:
    await emulator.control.delete_key(VAULT, KEY)


async def purge(emulator: Emulator, _: Clock) -> None:
    await emulator.control.delete_key(VAULT, KEY)
    await emulator.control.purge_key(VAULT, KEY)


async def make_anew(emulator: Emulator, clock: Clock) -> None:
    await purge(emulator, clock)
    await emulator.control.create_key(VAULT, KEY)


async def answers(wire: Wire, version: str, wrapped: bytes) -> tuple[tuple[int, str | None, str | None], ...]:
    value = {"alg": "RSA-OAEP-256", "value": encode(wrapped)}
    seen = (
        await wire.send("GET", f"/keys/{KEY}/{version}"),
        await wire.wrap(PROBE, version=version),
        await wire.send("POST", f"/keys/{KEY}/{version}/unwrapkey", value),
    )
    return tuple((one.status, *(one.codes if one.status != 200 else (None, None))) for one in seen)


STATES = [
    # change, dialects, GET, wrapKey, unwrapKey
    pytest.param(leave, (), OK, OK, OK, id="healthy"),
    pytest.param(disable, (), OK, OK, DISABLED, id="disabled"),
    pytest.param(disable, (Dialect.DISABLED_GET_REFUSED,), BARE, OK, DISABLED, id="disabled, GET refused"),
    pytest.param(disable, (Dialect.FORBIDDEN_WITHOUT_INNER_CODE,), OK, OK, BARE, id="disabled, no inner code"),
    pytest.param(expire, (), OK, BARE, OK, id="expired"),
    pytest.param(expire, (Dialect.EXPIRED_UNWRAP_REFUSED,), OK, BARE, BARE, id="expired, unwrap refused"),
    pytest.param(postpone, (), OK, BARE, OK, id="not yet valid"),
    pytest.param(forbid_unwrap, (), OK, OK, NOT_PERMITTED, id="unwrapKey not in key_ops"),
    pytest.param(forbid_wrap, (), OK, NOT_PERMITTED, OK, id="wrapKey not in key_ops"),
    pytest.param(delete, (), NOT_FOUND, NOT_FOUND, NOT_FOUND, id="soft-deleted"),
    pytest.param(purge, (), NOT_FOUND, NOT_FOUND, NOT_FOUND, id="purged"),
    pytest.param(make_anew, (), NOT_FOUND, NOT_FOUND, NOT_FOUND, id="another key under the same name"),
]


@pytest.mark.parametrize(("change", "dialects", "get", "wrap", "unwrap"), STATES)
async def test_state_of_a_key_decides_each_answer(
    vault: Emulator,
    wire: Wire,
    clock: Clock,
    change: Change,
    dialects: tuple[Dialect, ...],
    get: tuple[int, str | None, str | None],
    wrap: tuple[int, str | None, str | None],
    unwrap: tuple[int, str | None, str | None],
) -> None:
    version = (await vault.control.key(VAULT, KEY))["newest"]
    wrapped = await wire.wrapped(PROBE)
    await change(vault, clock)
    await vault.control.set_dialects(dict.fromkeys(dialects, True))
    assert await answers(wire, version, wrapped) == (get, wrap, unwrap)


async def test_enabling_a_key_makes_it_unwrap_again(vault: Emulator, wire: Wire) -> None:
    version, wrapped = (await vault.control.key(VAULT, KEY))["newest"], await wire.wrapped(PROBE)
    await vault.control.disable_key(VAULT, KEY)
    await vault.control.enable_key(VAULT, KEY)
    assert await answers(wire, version, wrapped) == (OK, OK, OK)


async def test_sdk_unwraps_what_the_vault_wrapped(
    keys: KeyClient, cryptography: Callable[[str], CryptographyClient], wire: Wire
) -> None:
    key = await keys.get_key(KEY)
    for algorithm in ("RSA-OAEP-256", "RSA-OAEP", "RSA1_5"):
        body = {"alg": algorithm, "value": encode(PROBE)}
        wrapped = await wire.send("POST", f"/keys/{KEY}/{key.properties.version}/WRAPKEY", body)
        octets = wrapped.body["value"]
        unwrapped = await wire.send("POST", f"/keys/{KEY}//UnwrapKey", {"alg": algorithm, "value": octets})
        assert unwrapped.body == {"kid": key.id, "value": encode(PROBE)}
    async with cryptography(key.id) as client:
        local = await client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, PROBE)
        assert (await client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, local.encrypted_key)).key == PROBE


async def test_sdk_reports_a_disabled_key_by_its_inner_code(
    vault: Emulator, keys: KeyClient, cryptography: Callable[[str], CryptographyClient], wire: Wire
) -> None:
    key, wrapped = await keys.get_key(KEY), await wire.wrapped(PROBE)
    await vault.control.disable_key(VAULT, KEY)
    async with cryptography(key.id) as client:
        with pytest.raises(HttpResponseError) as caught:
            await client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped)
    assert (caught.value.status_code, caught.value.error.code) == (403, "Forbidden")
    assert caught.value.error.innererror == {"code": "KeyDisabled"}
    assert not (await keys.get_key(KEY)).properties.enabled


async def test_newest_version_is_shown_even_when_it_is_disabled(vault: Emulator, keys: KeyClient) -> None:
    rotated = await vault.control.rotate_key(VAULT, KEY)
    await vault.control.disable_key(VAULT, KEY, rotated["newest"])
    key = await keys.get_key(KEY)
    assert (key.properties.version, key.properties.enabled) == (rotated["newest"], False)


async def test_older_versions_unwrap_until_each_is_disabled(vault: Emulator, wire: Wire) -> None:
    first, wrapped = (await vault.control.key(VAULT, KEY))["newest"], await wire.wrapped(PROBE)
    second = (await vault.control.rotate_key(VAULT, KEY))["newest"]
    assert await answers(wire, first, wrapped) == (OK, OK, OK)
    assert await answers(wire, second, wrapped) == (OK, OK, (400, "BadParameter", None))
    await vault.control.disable_key(VAULT, KEY, first)
    assert await answers(wire, first, wrapped) == (OK, OK, DISABLED)
    assert await answers(wire, second, await wire.wrapped(PROBE)) == (OK, OK, OK)


async def test_deletion_and_recovery_take_their_time_to_show(vault: Emulator, wire: Wire, clock: Clock) -> None:
    await vault.control.change_vault(VAULT, settle_seconds=10)
    await wire.sign_in()
    await vault.control.delete_key(VAULT, KEY)
    assert (await wire.send("GET", f"/deletedkeys/{KEY}")).status == 404
    clock.advance(10)
    assert (await wire.send("GET", f"/deletedkeys/{KEY}")).status == 200
    await vault.control.recover_key(VAULT, KEY)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 404
    clock.advance(10)
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 200


async def test_deleted_key_is_purged_when_its_days_are_over(vault: Emulator, wire: Wire, clock: Clock) -> None:
    await vault.control.delete_key(VAULT, KEY)
    clock.advance(90 * 86_400)
    await wire.sign_in()
    assert (await wire.send("GET", f"/deletedkeys/{KEY}")).codes == ("KeyNotFound", None)
    assert (await vault.control.create_key(VAULT, KEY))["versions"]


async def test_sdk_meets_not_found_for_a_key_that_never_was(keys: KeyClient) -> None:
    with pytest.raises(ResourceNotFoundError) as caught:
        await keys.get_key("never-made")
    assert (caught.value.status_code, caught.value.error.code) == (404, "KeyNotFound")
    assert not caught.value.error.innererror
