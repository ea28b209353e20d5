import json
from dataclasses import replace
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from bus.support import PREFIX, TIME, row
from byokd.adapters.sql.columns import encode_document
from byokd.ports import BusMessage
from byokd.records import OutboxRow, Retained
from byokd.runtime.envelope import (
    DaemonStatus,
    cloud_event,
    daemon_message,
    messages,
    presence_client_id,
    publisher_client_id,
)

STREAM = "accounts/00000000-0000-0000-0000-000000000001/media-group/contoso"


def test_an_event_is_a_cloud_event_in_structured_json() -> None:
    draft = OutboxRow(7, "id-7", STREAM, "byokd.account.created", TIME, '{"state":"Accessible"}', Retained.KEEP)
    (event,) = messages(draft, prefix=PREFIX)
    assert (event.topic, event.retain) == (f"{PREFIX}/{STREAM}/events", False)
    assert json.loads(event.payload) == {
        "specversion": "1.0",
        "id": "id-7",
        "source": PREFIX,
        "type": "byokd.account.created",
        "subject": STREAM,
        "time": "2026-03-01T12:00:00.123Z",
        "datacontenttype": "application/json",
        "data": {"state": "Accessible"},
    }


def test_the_source_is_a_relative_reference_that_no_replica_or_restart_changes() -> None:
    (event,) = messages(row(retained=Retained.KEEP), prefix=PREFIX)
    source = urlsplit(json.loads(event.payload)["source"])
    assert (source.scheme, source.netloc, source.path) == ("", "", PREFIX)


def test_the_retained_state_is_the_same_event_and_comes_after_it() -> None:
    event, state = messages(row(retained=Retained.SET, sequence=3), prefix=PREFIX)
    assert event.topic.endswith("/events")
    assert state == BusMessage(f"{PREFIX}/accounts/a/state", event.payload, retain=True)


def test_a_deleted_stream_is_emptied_after_its_last_event() -> None:
    event, state = messages(row(retained=Retained.CLEAR), prefix=PREFIX)
    assert event.payload
    assert state == BusMessage(f"{PREFIX}/accounts/a/state", b"", retain=True)


_texts = st.text(st.characters(exclude_categories=()))


@given(st.dictionaries(_texts, st.none() | st.integers() | _texts))
def test_what_is_sent_is_what_was_signed_and_reads_as_what_was_told(data: dict[str, str | int | None]) -> None:
    told = replace(row(retained=Retained.KEEP), document=encode_document(data))
    (event,) = messages(told, prefix=PREFIX)
    assert event.payload.isascii()
    assert event.payload.endswith(b',"data":' + told.document.encode() + b"}")
    assert json.loads(event.payload) == cloud_event(told, prefix=PREFIX)
    assert json.loads(event.payload)["data"] == data


def test_a_daemon_tells_whether_it_is_there() -> None:
    message = daemon_message(DaemonStatus.OFFLINE, prefix=PREFIX, instance="one", version="1.2", event_id="id-1")
    assert (message.topic, message.retain) == (f"{PREFIX}/daemons/one/status", True)
    event = json.loads(message.payload)
    assert (event["type"], event["id"], event["source"]) == ("byokd.daemon.offline", "id-1", PREFIX)
    assert event["data"] == {"status": "offline", "instance": "one", "version": "1.2"}
    assert "time" not in event


def test_client_ids_are_fixed_and_differ_between_deployments_that_share_a_broker() -> None:
    assert publisher_client_id("byokd/v1") == "byokd-publisher-byokd-v1"
    assert presence_client_id("byokd/v1", "one") == "byokd-presence-byokd-v1-one"
    assert publisher_client_id("other/v1") != publisher_client_id("byokd/v1")
