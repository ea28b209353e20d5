"""What must hold of a database and of the bus, after whatever death."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiomqtt

from byokd.adapters.sealing.account_cipher import HkdfAccountCipher
from byokd.domain.chain import Heads
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, TenantId
from byokd.domain.vocabulary import EventType
from byokd.ports import KeyTarget
from byokd.records import SealedKey, SealedValue, WrappedKey
from byokd.runtime.account_keys import AccountKeys
from byokd.runtime.archive import known_heads
from byokd.runtime.clock import SystemRandomness
from byokd.runtime.layers import value_context
from byokd.runtime.offline_wiring import opened_audit
from byokd.settings import Settings
from kills.snapshot import AnyRow, Snapshot
from parts.subscriber import Subscriber

_SUFFIXES = ("vault.azure.net",)
END = "end"
"""Topic below the prefix on which a reader says that it has read everything so far."""


Opened = tuple[dict[tuple[str, str], bytes], set[str]]


class Keys:
    """Opens account keys as byokd does, through the real ports, and remembers what they were."""

    def __init__(self, account_keys: AccountKeys) -> None:
        self.account_keys = account_keys
        self._known: dict[tuple[str, str], bytes] = {}
        self._cipher = HkdfAccountCipher(SystemRandomness())

    async def check(self, seen: Snapshot, *, disabled: set[str]) -> Opened:
        """Open every wrap, current and superseded, and then every value, but for keys that the customer has disabled.

        Give what the values are, by account and name, and which accounts stayed closed.
        """
        current = {row.account for row in seen.keys if row.superseded_at is None}
        assert current == {row.id for row in seen.accounts}, "an account without exactly one current wrap"
        payloads: dict[str, bytes] = {}
        for row in seen.keys:
            key = (
                None
                if row.key_identifier is None
                else KeyIdentifier.parse(row.key_identifier, allowed_suffixes=_SUFFIXES)
            )
            if key is not None and key.name in disabled:
                continue
            target = None if key is None else KeyTarget(IdentityName("platform"), TenantId(row.tenant), key)
            payloads[row.account] = await self._check_one(row, key, target)
        values = {
            (AccountId.parse(row.account).name, row.name): self._content(row, payloads[row.account])
            for row in seen.values
            if row.account in payloads
        }
        return values, {AccountId.parse(account).name for account in current - payloads.keys()}

    def _content(self, row: AnyRow, account_key: bytes) -> bytes:
        account = AccountId.parse(row.account)
        value = SealedValue(account, row.kind, row.name, row.revision, row.sealed, row.storage_key)
        try:
            inner = self.account_keys._layers.uncover_value(value)
            return self._cipher.decrypt(account_key, inner, context=value_context(value))
        except Exception as error:
            raise AssertionError(f"{value} does not open: {error!r}") from error

    async def _check_one(self, row: AnyRow, key: KeyIdentifier | None, target: KeyTarget | None) -> bytes:
        wrapped = _wrapped(row, key)
        try:
            payload = await self.account_keys.open(wrapped, target)
        except Exception as error:
            raise AssertionError(f"the account key of {wrapped} does not open: {error!r}") from error
        digest = hashlib.sha256(payload.account_key).digest()
        known = self._known.setdefault((row.account, row.incarnation), digest)
        assert digest == known, f"the account key of {wrapped} is another one than before"
        return payload.account_key


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


def check_chain(settings: Settings, subscriber: Subscriber, *, prefix: str) -> None:
    """The record of events is as it was written (`byokd audit verify`), and as it was last told on the bus."""
    told = [
        message
        for message in subscriber.on(f"{prefix}/service/events")
        if message.event["type"] == EventType.SERVICE_AUDIT_HEADS
    ]
    with opened_audit(settings) as audit:
        defects = list(audit.defects())
        assert not defects, f"the record is not as it was written: {defects}"
        for known in known_heads([json.dumps(told[-1].event)] if told else []):
            assert isinstance(known, Heads)
            assert audit.differing(known) is None, "the heads are not those that were told"


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
