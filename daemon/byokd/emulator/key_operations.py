"""What each key operation does, once it is allowed: bodies in, bodies out."""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from byokd.emulator import refusals, views
from byokd.emulator.exchange import Asked
from byokd.emulator.faults import Fault
from byokd.emulator.material import KeyMaker, Material, decode, encode
from byokd.emulator.refusals import Refusal, bad_parameter
from byokd.emulator.vaults import Attributes, Key, KeyVersion, Vault
from byokd.emulator.vocabulary import Curve, Dialect, FaultKind, KeyType, Operation
from byokd.emulator.world import World

RSA_SIZES: Final = (2048, 3072, 4096)
"""What the service makes (documentation); the control API makes others too."""
PAGE: Final = 25
"""Versions in one page, and the most that can be asked for (documentation)."""
Body = Mapping[str, object]
Performed = tuple[HTTPStatus, Body | None]


class KeyOperations:
    """The operations of the data plane. Each raises `Refusal` for what the service would not do."""

    def __init__(self, world: World, maker: KeyMaker) -> None:
        self._world = world
        self._maker = maker
        self._writes: dict[Operation, Callable[[Vault, Asked], Awaitable[Body]]] = {
            Operation.CREATE: self._create,
            Operation.ROTATE: self._rotate,
            Operation.UPDATE: self._update,
        }
        self._reads: dict[Operation, Callable[[Vault, Asked, str], Body]] = {
            Operation.LIST: self._list,
            Operation.VERSIONS: self._versions,
            Operation.LIST_DELETED: self._list_deleted,
            Operation.GET_DELETED: self._get_deleted,
            Operation.DELETE: self._delete,
            Operation.RECOVER: self._recover,
        }

    async def perform(self, vault: Vault, operation: Operation, asked: Asked, struck: list[Fault]) -> Performed:
        """Do it; the status and body of the answer."""
        name = asked.path[1] if len(asked.path) > 1 else ""
        if operation is Operation.PURGE:
            vault.purge_key(name, self._world.clock())
            return HTTPStatus.NO_CONTENT, None
        if operation is Operation.GET:
            return HTTPStatus.OK, self._get(vault, asked, struck)
        if operation in self._writes:
            return HTTPStatus.OK, await self._writes[operation](vault, asked)
        if operation in self._reads:
            return HTTPStatus.OK, self._reads[operation](vault, asked, name)
        wrong = any(one.kind is FaultKind.WRONG_UNWRAP for one in struck)
        return HTTPStatus.OK, await self._use(vault, operation, asked, wrong=wrong)

    async def make(self, kty: KeyType, *, size: int | None, curve: Curve | None) -> Material:
        """Fresh material for a key of that type."""
        if kty in (KeyType.RSA, KeyType.RSA_HSM):
            return await self._maker.rsa(size or RSA_SIZES[0])
        return self._maker.ec(curve or Curve.P256)

    def _list(self, vault: Vault, asked: Asked, _: str) -> Body:
        found = [vault.find(name, self._world.clock()) for name in vault.keys]
        return _page(vault, asked, [views.item(vault, one.name) for one in found if one])

    def _versions(self, vault: Vault, asked: Asked, name: str) -> Body:
        key = self._key(vault, name)
        return _page(vault, asked, [views.item(vault, key.name, one) for one in key.versions])

    def _list_deleted(self, vault: Vault, asked: Asked, _: str) -> Body:
        gone = [vault.find_deleted(name, self._world.clock()) for name in list(vault.deleted_keys)]
        return _page(vault, asked, [views.deleted_item(vault, one) for one in gone if one])

    def _get_deleted(self, vault: Vault, _: Asked, name: str) -> Body:
        key = vault.find_deleted(name, self._world.clock())
        if key is None:
            raise refusals.deleted_key_not_found(name)
        return views.deleted_bundle(vault, key)

    def _delete(self, vault: Vault, _: Asked, name: str) -> Body:
        return views.deleted_bundle(vault, vault.delete_key(name, self._world.clock()))

    def _recover(self, vault: Vault, _: Asked, name: str) -> Body:
        key = vault.recover_key(name, self._world.clock())
        return views.bundle(vault, key.name, key.newest)

    def _get(self, vault: Vault, asked: Asked, struck: list[Fault]) -> Body:
        key, version_id = self._key(vault, asked.path[1]), asked.word(2)
        version = _version(key, version_id)
        stale = next((one for one in struck if one.kind is FaultKind.STALE_READ), None)
        if stale is not None and not version_id:
            version = key.versions[max(0, len(key.versions) - 1 - stale.versions_back)]
        if not version.enabled and Dialect.DISABLED_GET_REFUSED in self._world.dialects:
            raise refusals.forbidden("Operation get is not allowed on a disabled key.", None)
        return views.bundle(vault, key.name, version)

    async def _use(self, vault: Vault, operation: Operation, asked: Asked, *, wrong: bool) -> Body:
        key = self._key(vault, asked.path[1])
        version = _version(key, asked.word(2))
        self._fit(version, operation)
        body = _body(asked)
        algorithm, value = body.get("alg"), body.get("value")
        if not isinstance(algorithm, str) or not isinstance(value, str):
            raise bad_parameter("Property alg and property value must be given")
        try:
            octets = decode(value)
        except ValueError:
            raise bad_parameter("Property value is not a base64url encoded value") from None
        work = version.material.wrap if operation is Operation.WRAP_KEY else version.material.unwrap
        done = await work(algorithm, octets)
        if wrong:
            done = secrets.token_bytes(len(done))
        return {"kid": views.identifier(vault, key.name, version), "value": encode(done)}

    def _fit(self, version: KeyVersion, operation: Operation) -> None:
        """Whether this version may be used: a disabled one wraps but does not unwrap, an expired one the reverse."""
        unwraps = operation is Operation.UNWRAP_KEY
        if not version.enabled and unwraps:
            raise refusals.forbidden(f"Operation {operation} is not allowed on a disabled key.", "KeyDisabled")
        if operation not in version.key_ops:
            raise refusals.forbidden(f"Operation {operation} is not permitted on this key.", "KeyOperationForbidden")
        strict = Dialect.EXPIRED_UNWRAP_REFUSED in self._world.dialects
        if not version.in_its_time(self._world.clock()) and (strict or not unwraps):
            raise refusals.forbidden(f"Operation {operation} is not allowed on an expired or not yet valid key.", None)

    async def _create(self, vault: Vault, asked: Asked) -> Body:
        body, name = _body(asked), asked.path[1]
        try:
            kty, curve = KeyType(str(body.get("kty"))), Curve(str(body["crv"])) if body.get("crv") else None
        except ValueError:
            raise bad_parameter("Property kty or crv has invalid value") from None
        size = body.get("key_size")
        if kty in (KeyType.RSA, KeyType.RSA_HSM) and size not in (None, *RSA_SIZES):
            raise bad_parameter("Property key_size has invalid value")
        attributes = _attributes(body)
        material = await self.make(kty, size=size if isinstance(size, int) else None, curve=curve)
        version = self._world.add_version(vault, name, kty=kty, material=material, attributes=attributes)
        return views.bundle(vault, vault.keys[name.lower()].name, version)

    async def _rotate(self, vault: Vault, asked: Asked) -> Body:
        key = self._key(vault, asked.path[1])
        version = await self.renew(vault, key)
        return views.bundle(vault, key.name, version)

    async def renew(self, vault: Vault, key: Key, attributes: Attributes | None = None) -> KeyVersion:
        """A new version of the same type and size as the newest."""
        last = key.newest
        curve = None if last.kty in (KeyType.RSA, KeyType.RSA_HSM) else Curve(last.material.public_jwk()["crv"])
        material = await self.make(last.kty, size=last.material.size, curve=curve)
        chosen = attributes or Attributes(key_ops=last.key_ops, tags=last.tags)
        return self._world.add_version(vault, key.name, kty=last.kty, material=material, attributes=chosen)

    async def _update(self, vault: Vault, asked: Asked) -> Body:
        key = self._key(vault, asked.path[1])
        version, body = _version(key, asked.word(2)), _body(asked)
        given, attributes = body.get("attributes"), _attributes(body)
        names: Mapping[str, object] = given if isinstance(given, Mapping) else {}
        version.enabled = attributes.enabled if "enabled" in names else version.enabled
        version.nbf = attributes.nbf if "nbf" in names else version.nbf
        version.exp = attributes.exp if "exp" in names else version.exp
        version.tags = attributes.tags if "tags" in body else version.tags
        version.key_ops = version.key_ops if attributes.key_ops is None else attributes.key_ops
        version.updated = int(self._world.clock())
        self._world.witness.attributes_changed(vault, key)
        return views.bundle(vault, key.name, version)

    def _key(self, vault: Vault, name: str) -> Key:
        key = vault.find(name, self._world.clock())
        if key is None:
            raise refusals.key_not_found(name)
        return key


def _version(key: Key, version_id: str) -> KeyVersion:
    version = key.version(version_id)
    if version is None:
        raise refusals.key_not_found(f"{key.name}/{version_id}")
    return version


def _body(asked: Asked) -> Body:
    try:
        body = json.loads(asked.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "BadParameter", "The request body is not a JSON object")
    return body


def _attributes(body: Body) -> Attributes:
    given, operations, tags = body.get("attributes") or {}, body.get("key_ops"), body.get("tags") or {}
    if not isinstance(given, Mapping) or not isinstance(tags, Mapping) or not isinstance(operations, list | None):
        raise bad_parameter("Property attributes, key_ops or tags has invalid value")
    times = given.get("nbf"), given.get("exp")
    if any(not isinstance(one, int | None) for one in times) or not isinstance(given.get("enabled", True), bool | None):
        raise bad_parameter("Property attributes has invalid value")
    return Attributes(
        key_ops=None if operations is None else tuple(str(one) for one in operations),
        enabled=given.get("enabled") is not False,
        nbf=times[0],
        exp=times[1],
        tags={str(name): str(value) for name, value in tags.items()},
    )


def _page(vault: Vault, asked: Asked, items: list[dict[str, object]]) -> Body:
    """One page and the link to the next; the token is the position, as opaque to clients as the service's own."""
    try:
        size, start = int(asked.query.get("maxresults", PAGE)), int(asked.query.get("$skiptoken", "0"))
    except ValueError:
        raise bad_parameter("maxresults or $skiptoken has invalid value") from None
    if not 1 <= size <= PAGE:
        raise bad_parameter(f"maxresults must be between 1 and {PAGE}")
    rest = start + size
    query = f"api-version={asked.query.get('api-version', '')}&$skiptoken={rest}&maxresults={size}"
    link = f"https://{vault.host}/{'/'.join(asked.path)}?{query}" if rest < len(items) else None
    return {"value": items[start:rest], "nextLink": link}
