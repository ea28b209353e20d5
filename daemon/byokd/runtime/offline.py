"""Verification without the daemon: its settings, its keys and its database, read and nothing else."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict

from byokd.runtime.verifying import Proof, counted_by_proof
from byokd.runtime.wiring import wire_verifier
from byokd.settings import Settings


async def verify_offline(
    settings: Settings, *, vaults: bool, tell: Callable[[Mapping[str, str]], None]
) -> Mapping[str, int]:
    """Verify everything stored; `tell` is called for what is damaged or cannot be proved now.

    Args:
        settings: the daemon's.
        vaults: whether the customers' vaults are asked, with the identities of the settings.
        tell: takes each such finding.

    Raises:
        ServiceKeysUnusableError: the service's own keys are missing, unsafe or malformed.
        StoreUnavailableError: the database cannot be read, or is not of this version.
    """
    numbers: Counter[Proof] = Counter(dict.fromkeys(Proof, 0))
    async with AsyncExitStack() as stack:
        verifier = await wire_verifier(settings, stack, vaults=vaults)
        async for page in verifier.findings():
            numbers.update(counted_by_proof(page))
            for finding in page:
                if finding.is_bad:
                    tell(asdict(finding))
    return {str(proof): number for proof, number in numbers.items()}
