"""What must hold of a database and of the bus, after whatever death."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiomqtt

from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId
from byokd.ports import KeyTarget
from byokd.records import SealedKey, WrappedKey
from byokd.runtime.account_keys import AccountKeys
from kills.snapshot import AnyRow, Snapshot
from parts.subscriber import Subscriber

_SUFFIXES = ("vault.azure.net",)
END = "end"
"""Topic below the prefix on which a reader says that it has read everything so far."""


class Keys:
    """Opens account keys as byokd does, through the real ports, and remembers what they were."""

    def __init__(self, account_keys: AccountKeys) -> None:
        self.account_keys = account_keys
        self._known: dict[tuple[str, str], bytes] = {}
        self.opened = 0

    async def check(self, seen: Snapshot, *, disabled: set[str]) -> None:
        """Open every wrap, current and superseded, but those of keys that the customer has disabled."""
        current = {row.account for row in seen.keys if row.superseded_at is None}
        assert current == {row.id for row in seen.accounts}, "an account without exactly one current wrap"
        for row in seen.keys:
            key = (
                None
                if row.key_identifier is None
                else KeyIdentifier.parse(row.key_identifier, allowed_suffixes=_SUFFIXES)
            )
            if key is not None and key.name in disabled:
                continue
            target = None if key is None else KeyTarget(IdentityName("platform"), TenantId(row.tenant), key)
            await self._check_one(row, key, target)

    async def _check_one(self, row: AnyRow, key: KeyIdentifier | None, target: KeyTarget | None) -> None:
        wrapped = _wrapped(row, key)
        try:
            payload = await self.account_keys.open(wrapped, target)
        except Exception as error:
            raise AssertionError(f"the account key of {wrapped} does not open: {error!r}") from error
        digest = hashlib.sha256(payload.account_key).digest()
        known = self._known.setdefault((row.account, row.incarnation), digest)
        assert digest == known, f"the account key of {wrapped} is another one than before"
        self.opened += 1


def _wrapped(row: AnyRow, key: KeyIdentifier | None) -> WrappedKey:
    return WrappedKey(
        AccountId.parse(row.account), row.generation, key, SealedKey(row.sealed, row.storage_key, row.system_key)
    )


def check_history(seen: Snapshot) -> None:
    """No event of an account is missing, and nothing refers to a version that was said to be retired."""
    sequences: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row in seen.events:
        if row.account is not None:
            sequences[row.account, row.incarnation].append(row.sequence)
    for which, numbers in sequences.items():
        assert numbers == list(range(1, len(numbers) + 1)), f"the sequence of {which} is {numbers}"
    for account in seen.accounts:
        last = sequences[account.id, account.incarnation][-1]
        assert last == account.sequence, f"{account.name} is at {account.sequence}, its last event at {last}"
    for row in seen.events:
        if row.type == "byokd.key.version-retired":
            held = [key.account for key in seen.keys if _is_of(key, row.data["keyIdentifier"], row.time)]
            assert not held, f"{row.data['keyIdentifier']} was retired while it wrapped the keys of {held}"


def _is_of(key: AnyRow, identifier: str, time: datetime) -> bool:
    """Whether a wrap is of a version, and was so at a time: an account registered later may use it again."""
    return bool(key.key_identifier == identifier and key.created_at <= time)


def check_heard(seen: Snapshot, subscriber: Subscriber, *, prefix: str) -> None:
    """All that is committed was heard, nothing else, and in the order of commitment, stream by stream."""
    committed: defaultdict[str, list[str]] = defaultdict(list)
    for row in seen.events:
        committed[f"{prefix}/{row.stream}/events"].append(row.id)
    first_heard: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for message in subscriber.heard:
        if message.topic.endswith("/events"):
            first_heard[message.topic].setdefault(str(message.event["id"]))
    heard = {event for events in first_heard.values() for event in events}
    missing = [f"{row.number} {row.type} of {row.stream}" for row in seen.events if row.id not in heard]
    assert not missing, f"never published: {missing}"
    for topic in committed.keys() | first_heard.keys():
        assert list(first_heard[topic]) == committed[topic], f"{topic} was heard otherwise than it was committed"


def check_retained(seen: Snapshot, retained: Mapping[str, dict[str, Any]], *, prefix: str) -> None:
    """What the broker retains is the committed state of every account that there is, and of no other."""
    last: dict[str, AnyRow] = {row.stream: row for row in seen.events if row.account is not None}
    accounts = {row.id: row for row in seen.accounts}
    expected = {
        f"{prefix}/{stream}/state": (row.id, accounts[row.account].state, accounts[row.account].reason)
        for stream, row in last.items()
        if row.account in accounts
    }
    found = {topic: (event["id"], event["data"]["state"], event["data"]["reason"]) for topic, event in retained.items()}
    assert found == expected, "the retained states are not the committed ones"


async def read_retained(broker: str, *, prefix: str) -> dict[str, dict[str, Any]]:
    """Read what is retained of the accounts: the broker sends that first, and then the end that we say ourselves.

    Whoever subscribes to everything below the prefix hears the end too, after all that the broker had taken before.
    """
    host, _, port = broker.rpartition(":")
    found: dict[str, dict[str, Any]] = {}
    async with aiomqtt.Client(host, int(port), protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(f"{prefix}/{END}", qos=1)
        await client.subscribe(f"{prefix}/accounts/+/+/+/state", qos=1)
        await client.publish(f"{prefix}/{END}", b"", qos=1)
        async for message in client.messages:
            if str(message.topic) == f"{prefix}/{END}":
                return found
            if message.retain:
                found[str(message.topic)] = json.loads(message.payload)
    raise AssertionError("the broker went away")
