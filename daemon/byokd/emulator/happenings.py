"""What happens to vaults that others may want to hear of. Told at once, and never waited for."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from byokd.emulator.vaults import Key, KeyVersion, Vault


class Witness(Protocol):
    """Hears what happened, after it did. Returns at once and raises nothing."""

    def version_created(self, vault: "Vault", key: "Key", version: "KeyVersion") -> None:
        """A key was made, or a new version of it."""

    def attributes_changed(self, vault: "Vault", key: "Key") -> None:
        """Times or other attributes of a key's versions changed."""

    def access_policy_changed(self, vault: "Vault") -> None:
        """Access policies changed, or whether the vault goes by them."""

    def resource_changed(self, vault: "Vault", operation: str, resource: str) -> None:
        """ARM did `operation` (spelled as ARM spells it) to a resource: the vault, or one that belongs to it."""


class Nobody:
    """Hears nothing."""

    def version_created(self, vault: "Vault", key: "Key", version: "KeyVersion") -> None:
        """Nobody is told."""

    def attributes_changed(self, vault: "Vault", key: "Key") -> None:
        """Nobody is told."""

    def access_policy_changed(self, vault: "Vault") -> None:
        """Nobody is told."""

    def resource_changed(self, vault: "Vault", operation: str, resource: str) -> None:
        """Nobody is told."""
