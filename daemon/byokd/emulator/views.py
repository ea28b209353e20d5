"""What may be seen of the world: Key Vault's documents, and the state for the control API. Public facts only."""

from byokd.emulator.documents import (
    FaultState,
    GrantState,
    KeyState,
    PrincipalState,
    VaultState,
    VersionState,
    WorldState,
)
from byokd.emulator.faults import Fault
from byokd.emulator.principals import Principal
from byokd.emulator.roles import READER
from byokd.emulator.subscription_documents import SubscriptionState, TokenState
from byokd.emulator.subscriptions import DeliveryToken, Subscription
from byokd.emulator.vaults import Key, KeyVersion, Vault
from byokd.emulator.vocabulary import Dialect, KeyType
from byokd.emulator.world import World

Document = dict[str, object]


def identifier(vault: Vault, name: str, version: KeyVersion | None = None) -> str:
    """The `kid`: with a version everywhere but in lists of keys."""
    return f"https://{vault.host}/keys/{name}" + (f"/{version.id}" if version else "")


def attributes(vault: Vault, version: KeyVersion) -> Document:
    """The attributes document: times that are unset are absent."""
    times = {name: at for name, at in (("nbf", version.nbf), ("exp", version.exp)) if at is not None}
    hsm = version.kty in (KeyType.RSA_HSM, KeyType.EC_HSM)
    return {
        "enabled": version.enabled,
        **times,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": vault.recovery_level,
        "recoverableDays": vault.soft_delete_days if vault.soft_delete else 0,
        "exportable": False,
        "hsmPlatform": "2" if hsm else "0",
    }


def bundle(vault: Vault, name: str, version: KeyVersion) -> Document:
    """A key with its public JSON web key."""
    key = {
        "kid": identifier(vault, name, version),
        "kty": version.kty,
        "key_ops": list(version.key_ops),
        **version.material.public_jwk(),
    }
    return {"key": key, "attributes": attributes(vault, version), **_tags(version)}


def item(vault: Vault, name: str, version: KeyVersion | None = None) -> Document:
    """A line in a list: of versions when one is given, else of keys, which show their newest version."""
    shown = version or vault.keys[name.lower()].newest
    return {"kid": identifier(vault, name, version), "attributes": attributes(vault, shown), **_tags(shown)}


def deleted_bundle(vault: Vault, key: Key) -> Document:
    """A soft-deleted key."""
    return {**_recovery(vault, key), **bundle(vault, key.name, key.newest)}


def deleted_item(vault: Vault, key: Key) -> Document:
    """A line in the list of soft-deleted keys."""
    shown = attributes(vault, key.newest)
    return {**_recovery(vault, key), "kid": identifier(vault, key.name), "attributes": shown, **_tags(key.newest)}


def _recovery(vault: Vault, key: Key) -> Document:
    where = f"https://{vault.host}/deletedkeys/{key.name}"
    return {"recoveryId": where, "deletedDate": key.deleted, "scheduledPurgeDate": key.purges}


def _tags(version: KeyVersion) -> Document:
    return {"tags": version.tags} if version.tags else {}


def version_state(vault: Vault, key: Key, version: KeyVersion) -> VersionState:
    """One version, for the control API."""
    return {
        "version": version.id,
        "kid": identifier(vault, key.name, version),
        "type": version.kty,
        "size": version.material.size,
        "enabled": version.enabled,
        "nbf": version.nbf,
        "exp": version.exp,
        "created": version.created,
        "updated": version.updated,
        "key_ops": list(version.key_ops),
        "tags": version.tags,
    }


def key_state(vault: Vault, key: Key) -> KeyState:
    """One key with its versions, for the control API."""
    return {
        "name": key.name,
        "kid": identifier(vault, key.name),
        "newest": key.newest.id,
        "deleted": key.deleted,
        "purges": key.purges,
        "versions": [version_state(vault, key, one) for one in key.versions],
    }


def vault_state(world: World, vault: Vault) -> VaultState:
    """One vault with its keys and grants, for the control API."""
    names = {object_id: one.name for one in world.principals.values() for object_id in one.object_ids.values()}
    grants: list[GrantState] = [
        {
            "principal": names.get(one.object_id),
            "object_id": one.object_id,
            "permission": one.permission,
            "key": one.key,
            "access": one.access,
            "from": one.start,
            "until": one.end,
        }
        for one in vault.grants
    ]
    return {
        "name": vault.name,
        "url": f"https://{vault.host}",
        "tenant": vault.tenant_id,
        "region": vault.region,
        "resource_id": vault.resource_id,
        "soft_delete": vault.soft_delete,
        "soft_delete_days": vault.soft_delete_days,
        "purge_protection": vault.purge_protection,
        "recovery_level": vault.recovery_level,
        "settle_seconds": vault.settle_seconds,
        "network": vault.network,
        "access": vault.access,
        "deleted": vault.deleted,
        "keys": [key_state(vault, one) for one in vault.keys.values()],
        "deleted_keys": [key_state(vault, one) for one in vault.deleted_keys.values()],
        "grants": grants,
        "readers": sorted(_readers(world, vault)),
        "subscriptions": [subscription_state(one) for one in vault.subscriptions.values()],
    }


def _readers(world: World, vault: Vault) -> set[str]:
    return {one.object_id for one in world.roles if one.role is READER and one.scope.lower() == vault.resource_id}


def subscription_state(subscription: Subscription) -> SubscriptionState:
    """One event subscription, without what its deliveries prove themselves with."""
    token = subscription.token
    return {
        "name": subscription.name,
        "endpoint": subscription.shown_endpoint,
        "topic": subscription.topic,
        "schema": subscription.schema,
        "headers": sorted(subscription.headers),
        "token": None if token is None else token_state(token),
        "event_types": sorted(subscription.event_types),
        "batch_size": subscription.batch_size,
        "parallel": subscription.parallel,
        "answer_seconds": subscription.pace.answer_seconds,
        "attempts": subscription.pace.attempts,
        "wait_scale": subscription.pace.scale,
        "waiting": subscription.waiting,
    }


def token_state(token: DeliveryToken) -> TokenState:
    """What the token of deliveries says."""
    return {
        "tenant": token.tenant,
        "audience": token.audience,
        "application": token.application,
        "version": token.version,
    }


def principal_state(principal: Principal) -> PrincipalState:
    """One identity or application, without what it proves itself with."""
    return {
        "name": principal.name,
        "kind": principal.kind,
        "tenant": principal.tenant_id,
        "client_id": principal.client_id,
        "object_id": principal.object_id,
        "tenants": sorted(principal.object_ids),
        "resource_id": principal.resource_id,
        "disabled": principal.disabled,
        "disabled_in": sorted(principal.disabled_in),
        "attached": principal.attached,
    }


def fault_state(fault: Fault) -> FaultState:
    """One fault, for the control API."""
    return {
        "id": fault.id,
        "target": fault.target,
        "kind": fault.kind,
        "operations": sorted(fault.operations),
        "share": fault.share,
        "count": fault.count,
        "until": fault.until,
    }


def world_state(world: World) -> WorldState:
    """Everything that may be seen."""
    return {
        "now": world.clock(),
        "tenants": world.tenants,
        "principals": [principal_state(one) for one in world.principals.values()],
        "vaults": [vault_state(world, one) for one in world.vaults.values()],
        "faults": [fault_state(one) for one in world.faults.listing()],
        "dialects": {one: one in world.dialects for one in Dialect},
        "application_token_seconds": world.application_token_seconds,
        "identity_token_seconds": world.identity_token_seconds,
        "role_delay_seconds": world.role_delay_seconds,
    }
