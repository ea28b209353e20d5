"""What is said of queues: every kind of trouble has words and a row on the operators' page, every fate is there."""

from pathlib import Path

import pytest

from byokd.ports.queues import QueueTrouble, QueueUnavailableError
from byokd.runtime.queue_reader import Fate
from byokd.runtime.queue_words import words_of

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()


@pytest.mark.parametrize("trouble", QueueTrouble)
def test_every_trouble_is_explained(trouble: QueueTrouble) -> None:
    message, hint = words_of(QueueUnavailableError(trouble, code="Word"))
    assert message.endswith(f" ({trouble}, Word)")
    assert hint
    assert words_of(QueueUnavailableError(trouble))[0] == message.removesuffix(f" ({trouble}, Word)")
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and f"`{trouble}`" in line.split("|")[1]]
    assert len(rows) == 1


def test_that_there_is_no_token_is_explained_as_with_identities() -> None:
    _, hint = words_of(QueueUnavailableError(QueueTrouble.NO_TOKEN, code="CredentialUnavailableError"))
    assert "az vm identity show" in hint


def test_every_fate_of_a_message_is_on_the_page() -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| `byokd_queue_messages_total"))
    assert {fate for fate in Fate if f"`{fate}`" not in row} == set()
