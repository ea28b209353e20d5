"""At start: are the service keys those that sealed what is stored?"""

from byokd.ports import Sealer, ServiceKeysUnusableError, Store


async def prove_service_keys(store: Store, sealer: Sealer) -> None:
    """Compare the live service keys with what the store remembers of them; remember those that are new.

    Raises:
        ServiceKeysUnusableError: a key that the store knows is missing, or is another one under the same id. Starting
            all the same would seal under the wrong key, and blame customers for records that do not open.
    """
    known, live = await store.service_key_checks(), sealer.fingerprints()
    missing = sorted(f"{kind}.{key_id}" for kind, key_id in known.keys() - live.keys())
    if missing:
        raise ServiceKeysUnusableError(
            f"the database was sealed with service keys that are not there: {', '.join(missing)}",
            hint="put the files back that belong to this database, from their backup",
        )
    other = sorted(f"{kind}.{key_id}" for kind, key_id in known if live[kind, key_id] != known[kind, key_id])
    if other:
        raise ServiceKeysUnusableError(
            f"these service keys are not those that sealed the database: {', '.join(other)}",
            hint="put the files back that belong to this database; a new key needs a new id, such as system.2.key",
        )
    await store.record_service_key_checks({key: check for key, check in live.items() if key not in known})
