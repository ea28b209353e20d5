"""What Azure Resource Manager tells of a vault."""

from dataclasses import dataclass


def region(text: str) -> str:
    """Give the short form of a region, such as `westeurope`; Azure writes `West Europe` too."""
    return "".join(text.split()).lower()


@dataclass(frozen=True, slots=True)
class VaultProperties:
    """A vault as ARM has it; None: it does not say.

    Attributes:
        region: in the short form, such as `westeurope`.
        soft_delete: whether what is deleted is kept for a while.
        purge_protection: whether it cannot be purged before.
    """

    region: str | None
    soft_delete: bool | None
    purge_protection: bool | None
