"""Where the service's own keys are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from byokd.adapters.sealing.key_files import CREDENTIAL_PREFIX
from byokd.ports import ServiceKey
from byokd.settings import ServiceKeySettings

DEFAULT: Final = Path("/etc/byokd/keys")
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""Set by systemd for units with `LoadCredential=`."""


def key_directory(settings: ServiceKeySettings, environment: Mapping[str, str]) -> Path:
    """Give the directory of the settings, or systemd's where it holds anything named like a service key, or DEFAULT.

    Only one of them: a set of keys that is half here and half there would be a mistake that nobody sees.
    """
    if settings.directory is not None:
        return settings.directory
    given = environment.get(CREDENTIALS)
    return Path(given) if given and _holds_keys(Path(given)) else DEFAULT


def _holds_keys(directory: Path) -> bool:
    beginnings = tuple(f"{kind}." for kind in ServiceKey)
    try:
        return any(path.name.removeprefix(CREDENTIAL_PREFIX).startswith(beginnings) for path in directory.iterdir())
    except OSError:
        return False
