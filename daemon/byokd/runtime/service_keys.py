"""At start: are the service keys those that sealed what is stored?"""

from collections.abc import Mapping

from byokd.ports import (
    SealContext,
    SealedStore,
    Sealer,
    ServiceKey,
    ServiceKeyMissingError,
    ServiceKeysUnusableError,
    Store,
)
from byokd.records import SealUse
from byokd.runtime.health import Component, Health

KeyChecks = Mapping[tuple[str, str], bytes]
"""Check values by kind and id."""


async def prove_service_keys(store: Store, sealer: Sealer) -> None:
    """Compare the live service keys with what the store remembers of them; remember those that are new.

    A system or storage key that sealed nothing which is still stored may be missing; an audit key never, as what it
    signed is not counted. What is remembered stays: an id names one key for ever.

    Raises:
        ServiceKeysUnusableError: a key that is needed is missing, or one is another than before under its id. Starting
            all the same would seal under the wrong key, and blame customers for records that do not open.
    """
    known, live = await refuse_unfit_keys(store, sealer)
    await store.record_service_key_checks({key: check for key, check in live.items() if key not in known})


async def refuse_unfit_keys(store: SealedStore, sealer: Sealer) -> tuple[KeyChecks, KeyChecks]:
    """Compare as `prove_service_keys`, and remember nothing; give what is remembered and what is live.

    Raises:
        ServiceKeysUnusableError: a key that is needed is missing, or one is another than before under its id.
        StoreUnavailableError: the store cannot be read.
    """
    known, live = await store.service_key_checks(), sealer.fingerprints()
    needed = {key for use in await store.seal_uses() for key in keys_of(use)}
    needed |= {(kind, key_id) for kind, key_id in known if kind == ServiceKey.AUDIT}
    missing = sorted(f"{kind}.{key_id}" for kind, key_id in needed - live.keys())
    if missing:
        raise ServiceKeysUnusableError(
            f"the database was sealed with service keys that are not there: {', '.join(missing)}",
            hint="put the files back that belong to this database, from their backup",
        )
    _refuse_other_keys(known, live)
    return known, live


async def refuse_other_keys(store: SealedStore, sealer: Sealer) -> None:
    """Compare those service keys that are there with what the store remembers of them; remember nothing.

    Raises:
        ServiceKeysUnusableError: one is another than before under its id: all that it sealed would look damaged.
        StoreUnavailableError: the store cannot be read.
    """
    _refuse_other_keys(await store.service_key_checks(), sealer.fingerprints())


def _refuse_other_keys(known: Mapping[tuple[str, str], bytes], live: Mapping[tuple[str, str], bytes]) -> None:
    other = sorted(
        f"{kind}.{key_id}" for (kind, key_id), check in live.items() if known.get((kind, key_id)) not in {None, check}
    )
    if other:
        raise ServiceKeysUnusableError(
            f"these service keys are not those that sealed the database: {', '.join(other)}",
            hint="put the files back that belong to this database; a new key needs a new id, such as system.2.key",
        )


class HeardSealer:
    """A sealer that says when a service key is missing; see the port. That lasts until the key is back: a restart."""

    def __init__(self, sealer: Sealer, health: Health) -> None:
        self._sealer = sealer
        self._health = health

    def seal(self, key: ServiceKey, plaintext: bytes, *, context: SealContext) -> bytes:
        """See `Sealer.seal`."""
        return self._sealer.seal(key, plaintext, context=context)

    def open(self, key: ServiceKey, sealed: bytes, *, context: SealContext) -> bytes:
        """See `Sealer.open`."""
        try:
            return self._sealer.open(key, sealed, context=context)
        except ServiceKeyMissingError as error:
            hint = "put the file back, from its backup, and restart byokd; no customer is to blame"
            self._health.trouble(Component.SERVICE_KEYS, str(error), hint=hint)
            raise

    def newest(self, key: ServiceKey) -> str:
        """See `Sealer.newest`."""
        return self._sealer.newest(key)

    def sealed_by(self, sealed: bytes) -> str:
        """See `Sealer.sealed_by`."""
        return self._sealer.sealed_by(sealed)

    def fingerprints(self) -> Mapping[tuple[str, str], bytes]:
        """See `Sealer.fingerprints`."""
        return self._sealer.fingerprints()


def keys_of(use: SealUse) -> frozenset[tuple[str, str]]:
    """Give the keys that open it, by kind and id."""
    storage = (str(ServiceKey.STORAGE), use.storage_key)
    return frozenset({storage} if use.system_key is None else {storage, (str(ServiceKey.SYSTEM), use.system_key)})
