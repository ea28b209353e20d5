"""What Azure itself tells of a vault, beside what the vault tells of its keys."""

from typing import Protocol

from byokd.domain.properties import VaultProperties
from byokd.ports.vault import KeyTarget


class VaultRegistry(Protocol):
    """Azure Resource Manager, as far as it may be asked."""

    async def vault(self, target: KeyTarget, *, subscription: str) -> VaultProperties | None:
        """Give the properties of the vault of a key; None when that cannot be told.

        That is: no permission, no answer in time, not found, not set up. Bounded in time by itself, and raises nothing:
        who cannot be asked must not keep anybody from registering.

        Args:
            target: the key, and who asks for it.
            subscription: of the account, where its owner's vaults are looked for first.
        """
        ...
