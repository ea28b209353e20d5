"""What deliveries of Event Grid say, in either schema, as real ones and odd ones do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.signals import Delivery, DeliveryUnreadableError, Signal, read_delivery

URL = "https://Contoso-Keys.vault.azure.net/keys/Media/0123456789abcdef0123456789abcdef"
HOST = "contoso-keys.vault.azure.net"
VAULT_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/Contoso-Keys"


def grid(kind: str, **data: object) -> dict[str, Any]:
    return {"id": "1", "topic": "t", "subject": "s", "eventType": kind, "data": data, "dataVersion": "1"}


def cloud(kind: str, **data: object) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "s", "type": kind, "data": data}


@pytest.mark.parametrize("form", [grid, cloud])
@pytest.mark.parametrize("name", ["KeyNewVersionCreated", "KeyNearExpiry", "KeyExpired"])
def test_an_event_of_a_key_names_vault_and_key(form: Any, name: str) -> None:  # noqa: ANN401 - either maker
    event = form(f"Microsoft.KeyVault.{name}", Id=URL, VaultName="Contoso-Keys", ObjectType="Key", ObjectName="Media")
    expected = Delivery((Signal("1", HOST, "media"),), 0)
    assert (read_delivery(event), read_delivery([event])) == (expected, expected)


def test_names_serve_where_there_is_no_address_also_with_blanks_around_them() -> None:
    data = {"VaultName": "contoso-keys", "ObjectName ": " Media", " Version": "x", "NBF": "1559081980", "EXP": None}
    (signal,) = read_delivery(grid("Microsoft.KeyVault.KeyExpired", **data)).signals
    assert (signal, signal.is_host) == (Signal("1", "contoso-keys", "media"), False)


def test_a_changed_access_policy_is_about_the_whole_vault() -> None:
    event = cloud("Microsoft.KeyVault.VaultAccessPolicyChanged", VaultName="contoso-keys", ObjectName="contoso-keys")
    assert read_delivery(event).signals == (Signal("1", "contoso-keys", None),)


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        (VAULT_ID, None),
        (f"{VAULT_ID}/accessPolicies/add", None),
        (f"{VAULT_ID}/providers/Microsoft.Authorization/roleAssignments/1", None),
        (f"{VAULT_ID}/keys/Media/providers/Microsoft.Authorization/roleAssignments/1", "media"),
    ],
)
@pytest.mark.parametrize("name", ["WriteSuccess", "DeleteSuccess", "ActionSuccess"])
def test_what_arm_did_to_a_vault_is_about_it_or_one_of_its_keys(uri: str, key: str | None, name: str) -> None:
    event = grid(f"Microsoft.Resources.Resource{name}", resourceUri=uri, operationName="x")
    assert read_delivery(event).signals == (Signal("1", "contoso-keys", key),)


@pytest.mark.parametrize(
    "event",
    [
        grid("Microsoft.KeyVault.SecretNewVersionCreated", Id=URL, VaultName="contoso-keys", ObjectName="s"),
        grid("Microsoft.Storage.BlobCreated", url="x"),
        grid("Microsoft.Resources.ResourceWriteSuccess", resourceUri="/subscriptions/s/resourceGroups/g"),
        grid("Microsoft.KeyVault.KeyExpired", VaultName="no/vault", ObjectName="media"),
        grid("Microsoft.KeyVault.KeyExpired", VaultName="contoso-keys", ObjectName="no key"),
        grid("Microsoft.KeyVault.KeyExpired"),
        {"id": 1, "type": 2, "data": 3},
        {},
    ],
)
def test_what_is_about_no_key_is_passed_over(event: object) -> None:
    assert read_delivery([event]) == Delivery((), 1)


def test_of_a_batch_each_event_is_read() -> None:
    known = cloud("Microsoft.KeyVault.KeyExpired", VaultName="contoso-keys", ObjectName="media")
    found = read_delivery([known, grid("Microsoft.Storage.BlobCreated"), known])
    assert (len(found.signals), found.passed_over) == (2, 1)


def test_the_validation_event_asks_for_its_code() -> None:
    kind = "Microsoft.EventGrid.SubscriptionValidationEvent"
    event = grid(kind, validationCode="C0DE", validationUrl="https://example.invalid/")
    assert read_delivery([event]) == Delivery((), 0, "C0DE")
    with pytest.raises(DeliveryUnreadableError):
        read_delivery([grid(kind)])


# Halves of characters too: JSON can name them.
texts = st.text(st.characters(), max_size=20)
json = st.recursive(
    st.none() | st.booleans() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
kinds = st.sampled_from(["Microsoft.KeyVault.KeyExpired", "Microsoft.Resources.ResourceWriteSuccess", "x"])
datas = st.dictionaries(
    st.sampled_from(["Id", "VaultName", "ObjectName", "resourceUri"]),
    json | st.sampled_from([URL, "https://[", "//", "a" * 5000, VAULT_ID]),
)
events = st.builds(lambda kind, name, data: {**grid(kind), "id": name, "data": data}, kinds, json, datas)


@given(json | st.lists(events))
def test_whatever_is_delivered_is_read_or_refused_and_names_nothing_odd(document: object) -> None:
    try:
        found = read_delivery(document)
    except DeliveryUnreadableError:
        return
    for signal in found.signals:
        assert signal.id.encode().decode() == signal.id
        assert len(signal.vault) <= 2048
        assert signal.vault.partition(".")[0].replace("-", "").isalnum()
        assert signal.key is None or (len(signal.key) <= 127 and signal.key.replace("-", "").isalnum())


def test_halves_of_characters_are_spelt_out_and_stay_apart() -> None:
    deleted = [grid("Microsoft.KeyVault.KeyExpired", Id=URL) | {"id": f"a{half}"} for half in "\ud800\udfff"]
    assert [signal.id for signal in read_delivery(deleted).signals] == ["a\\ud800", "a\\udfff"]
    code = grid("Microsoft.EventGrid.SubscriptionValidationEvent", validationCode="C\ud800")
    assert read_delivery([code]).validation_code == "C\\ud800"


@pytest.mark.parametrize("document", [None, 1, "x", [], [1], [None, [{}]]])
def test_what_is_no_delivery_is_refused(document: object) -> None:
    with pytest.raises(DeliveryUnreadableError):
        read_delivery(document)


def test_what_is_no_event_among_events_is_passed_over() -> None:
    assert read_delivery([{}, None, 7]) == Delivery((), 3)
