"""Azure in miniature: Key Vault, Entra ID and managed identities, reached by the real Azure packages.

For the demo, the command line and the tests only. It shares nothing with the rest of byokd, so that it is a second
implementation of what is known of Azure, and can be wrong in its own way. `docs/emulator.md` tells what it does and
where each behaviour comes from.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from byokd.emulator.client import ControlClient, ControlError
    from byokd.emulator.material import KeyMaker
    from byokd.emulator.routes import EmulatorResolver, trusting_context
    from byokd.emulator.server import Address, Emulator
    from byokd.emulator.vocabulary import (
        Curve,
        Dialect,
        EventType,
        FaultKind,
        KeyType,
        Network,
        Permission,
        PrincipalKind,
        Schema,
        Topic,
    )

_PLACES = {
    "Address": "server",
    "ControlClient": "client",
    "ControlError": "client",
    "Emulator": "server",
    "EmulatorResolver": "routes",
    "KeyMaker": "material",
    "trusting_context": "routes",
}
"""Loaded on first use: the command line reads the vocabulary alone, and PyJWT is an optional dependency."""

__all__ = [
    "Address",
    "ControlClient",
    "ControlError",
    "Curve",
    "Dialect",
    "Emulator",
    "EmulatorResolver",
    "EventType",
    "FaultKind",
    "KeyMaker",
    "KeyType",
    "Network",
    "Permission",
    "PrincipalKind",
    "Schema",
    "Topic",
    "trusting_context",
]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name, "vocabulary")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{place}"), name)
