"""docs/asyncapi.json is generated, whole, and true of the example; what is sent is held to it in tests/virtual."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from byokd.domain.vocabulary import EventType
from byokd.runtime.asyncapi import document, page
from byokd.runtime.event_shapes import EVENT_DATA, flaws

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/events.md").read_text()


def test_it_is_up_to_date() -> None:
    assert (ROOT / "docs/asyncapi.json").read_text() == page(), "run `make docs`"


def test_every_type_is_described_and_on_a_channel() -> None:
    assert EVENT_DATA.keys() == set(EventType)
    made = document()
    named = {message["name"] for message in made["components"]["messages"].values()}
    assert named == {*map(str, EventType), "byokd.daemon.online", "byokd.daemon.offline"}
    shown = {name for channel in made["channels"].values() for name in channel["messages"]}
    assert shown == made["components"]["messages"].keys()


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    made = document()
    found = set(references(made))
    assert len(found) > 40
    for reference in found:
        place: Any = made
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_the_example_on_the_page_has_its_shape() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert flaws(json.loads(example)) == []


def test_every_type_and_every_member_is_on_the_page() -> None:
    names = {str(field.alias) for shape in EVENT_DATA.values() for field in shape.model_fields.values()}
    assert {name for name in [*names, *EventType] if f"`{name}`" not in PAGE} == set()


def test_what_differs_from_its_shape_is_named() -> None:
    good = {"keyIdentifier": "https://x/keys/k", "message": "m", "identity": "platform", "detectedBy": "poll"}
    event = {"type": "byokd.key.expired", "data": good}
    assert flaws(event) == []
    assert flaws({**event, "type": "byokd.key.lost"}) == ["no event is of the type byokd.key.lost"]
    assert flaws({**event, "data": {**good, "more": 1}}) == ["more: not described"]
    assert flaws({**event, "data": {"keyIdentifier": "x", "message": "m", "identity": "i"}})[0] == "detectedBy: missing"
    assert flaws({**event, "data": {**good, "detectedBy": "guess"}})
    assert flaws({"type": "byokd.key.expired"}) == ["it has no data"]
