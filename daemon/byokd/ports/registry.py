"""What Azure itself tells of a vault, beside what the vault tells of its keys."""

from typing import Protocol

from byokd.domain.identifiers import VaultHost
from byokd.domain.properties import VaultProperties


class VaultRegistry(Protocol):
    """Azure Resource Manager, as far as it may be asked."""

    async def vault(self, host: VaultHost) -> VaultProperties | None:
        """Give a vault's properties; None when that cannot be told: no permission, no answer in time, not set up.

        Bounded in time by itself, and raises nothing: who cannot be asked must not keep anybody from registering.
        """
        ...
