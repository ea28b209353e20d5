"""The secrets that deliveries have to show, from their files."""

from collections.abc import Mapping
from pathlib import Path

from byokd.settings import EventGridSettings

LEAST_BYTES = 16
"""A shorter one could be guessed."""


def read_secrets(settings: EventGridSettings) -> Mapping[str, bytes]:
    """Give the secret of each source that has one.

    Raises:
        OSError: a file cannot be read any more; they were looked into before.
    """
    return {
        name: read_secret(source.secret_file)
        for name, source in settings.sources.items()
        if source.secret_file is not None
    }


def read_secret(path: Path) -> bytes:
    """Read it without its trailing line break."""
    return path.read_bytes().removesuffix(b"\n").removesuffix(b"\r")


def flaw_of_secrets(settings: EventGridSettings) -> str | None:
    """Say which sources cannot be told apart, as they have one secret; None when they can."""
    seen: dict[bytes, str] = {}
    for name, secret in read_secrets(settings).items():
        if (other := seen.setdefault(secret, name)) != name:
            alike = f"the sources {other} and {name} have the same secret"
            return f"{alike}, so that nobody can tell which of them delivers: write another for one"
    return None


def flaw_of_secret(path: Path) -> str | None:
    """Say what is wrong with a file that should hold a secret; None when nothing is."""
    right = f"write the path of a readable file with a secret of {LEAST_BYTES} visible characters or more"
    try:
        secret = read_secret(path)
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}; {right}"
    if len(secret) < LEAST_BYTES:
        return f"is too short; {right}"
    # A header carries no others.
    return None if all(0x21 <= one <= 0x7E for one in secret) else f"has other characters; {right}"  # noqa: PLR2004 - "!" to "~"
