"""Messages of queues: JSON or base64 of it, either schema, one event or several; all else is refused in one way."""

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.domain.queued import read_message
from byokd.domain.signals import DeliveryUnreadableError, Signal

DATA = {"Id": "https://contoso.vault.azure.net/keys/media/0123456789abcdef0123456789abcdef"}
KIND = "Microsoft.KeyVault.KeyNewVersionCreated"
GRID = {"id": "1", "eventType": KIND, "data": DATA}
CLOUD = {"specversion": "1.0", "id": "1", "type": KIND, "source": "/x", "data": DATA}
SIGNAL = Signal("1", "contoso.vault.azure.net", "media")


def plain(text: str) -> str:
    return text


def encoded(text: str, *, encoding: str = "utf-8") -> str:
    return base64.b64encode(text.encode(encoding)).decode()


def broken_into_lines(text: str) -> str:
    return base64.encodebytes(text.encode()).decode()


def with_a_mark(text: str) -> str:
    return f"\ufeff{text}"


def marked_and_encoded(text: str) -> str:
    return encoded(text, encoding="utf-8-sig")


def among_blanks(text: str) -> str:
    return f"\r\n {text}\n"


@pytest.mark.parametrize(
    "form",
    [plain, encoded, broken_into_lines, with_a_mark, marked_and_encoded, among_blanks],
    ids=lambda form: form.__name__,
)
@pytest.mark.parametrize("event", [GRID, CLOUD], ids=["grid", "cloud"])
def test_every_form_and_schema_is_read(form: Any, event: dict[str, Any]) -> None:  # noqa: ANN401 - a function
    for document, count in ((event, 1), ([event], 1), ([event, event], 2)):
        delivery = read_message(form(json.dumps(document)))
        assert (delivery.signals, delivery.passed_over) == ((SIGNAL,) * count, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "[]", "[1]", "1", "null", "x", "W10", "W10=x", "=", "bnVsbA==", "\N{SNOWMAN}", "{}{}"),
        *("[" * 60_000, encoded("[" * 40_000), "[" + "9" * 5_000 + "]", encoded("no json"), "//79"),
    ],
    ids=str.__len__,
)
def test_anything_else_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(DeliveryUnreadableError) as refused:
        read_message(text)
    assert len(str(refused.value)) < 60


@given(st.one_of(st.text(), st.binary().map(lambda some: base64.b64encode(some).decode()), st.from_regex(r"[\[{].*")))
def test_no_message_ever_raises_anything_else(text: str) -> None:
    with suppress(DeliveryUnreadableError):
        read_message(text)
