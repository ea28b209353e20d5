"""What trouble with a queue means, for people: `/healthz`, the log and `byokd doctor` say the same."""

from collections.abc import Mapping
from typing import Final

from byokd.ports.queues import QueueTrouble, QueueUnavailableError
from byokd.runtime.identity_words import hint_of

_ROLE: Final = "Storage Queue Data Message Processor"
_TENANT: Final = (
    "the identity has to be of the tenant of the storage account's subscription: see identity and tenant of the "
    "source, and the clock"
)
_WAY: Final = (
    "see that the storage account exists, then DNS, firewall and routes to it, network.ca_file and network.connect_to"
)

_WORDS: Final[Mapping[QueueTrouble, tuple[str, str]]] = {
    QueueTrouble.NO_TOKEN: ("there is no token for its identity", ""),
    QueueTrouble.TOKEN_REFUSED: (
        "the storage account does not take the token",
        _TENANT,
    ),
    QueueTrouble.NOT_PERMITTED: (
        "the identity may not read it",
        f'give it the role "{_ROLE}" on the queue; a new role takes up to 10 min',
    ),
    QueueTrouble.NETWORK_BLOCKED: (
        "the storage account's firewall does not let us in",
        "allow this machine's address or subnet, or use a private endpoint; without the role it can say the same",
    ),
    QueueTrouble.MISSING: (
        "there is no such queue",
        "make it (az storage queue create), or see the queue of the source; Event Grid does not make it",
    ),
    QueueTrouble.THROTTLED: ("the storage account is busy", "wait; if it lasts see what else uses the account"),
    QueueTrouble.UNREACHABLE: (
        "it cannot be reached",
        _WAY,
    ),
    QueueTrouble.TIMED_OUT: ("it does not answer in time", "see firewall and routes to the storage account"),
    QueueTrouble.FOREIGN_ANSWER: (
        "something else than Azure Storage answers",
        "look for a proxy on the way, and see the queue of the source and network.connect_to",
    ),
    QueueTrouble.FAILED: ("the storage account fails", "wait; if it lasts see Azure's status and the code"),
}


def words_of(error: QueueUnavailableError) -> tuple[str, str]:
    """Say what is wrong, and what to do."""
    message, hint = _WORDS[error.trouble]
    shown = message if error.code is None else f"{message} ({error.trouble}, {error.code})"
    return shown, hint if error.trouble is not QueueTrouble.NO_TOKEN else hint_of(error.code)
