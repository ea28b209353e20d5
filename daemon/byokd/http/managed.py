"""What the management API manages, and how it says no."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import HTTPException, Query

from byokd.domain.accounts import Account
from byokd.domain.identifiers import AccountId, IdentifierInvalidError
from byokd.http.health import Probes
from byokd.ports import Store
from byokd.runtime.brake import Brakeman
from byokd.runtime.damages import Damages
from byokd.runtime.explaining import Explainer
from byokd.runtime.publisher import Publisher
from byokd.runtime.registrar import Registrar
from byokd.runtime.reloading import Reloader
from byokd.runtime.repairing import Repairer
from byokd.runtime.requirements import Requirements
from byokd.runtime.resealer import Resealer
from byokd.runtime.scheduler import Scheduler
from byokd.runtime.values import ProtectedValues
from byokd.runtime.verifying import Verifier
from byokd.settings import Settings

Reference = Annotated[str, Query(description="an ARM id, or a name that only one account has")]


@dataclass(frozen=True, slots=True)
class Managed:
    """What the API manages. `has_started` tells whether the service keys are proved and everything runs."""

    settings: Settings
    store: Store
    registrar: Registrar
    repairer: Repairer
    scheduler: Scheduler
    requirements: Requirements
    brakeman: Brakeman
    publisher: Publisher
    resealer: Resealer
    verifier: Verifier
    damages: Damages
    probes: Probes
    http: str
    event_grid: str | None
    values: ProtectedValues
    reloader: Reloader
    explainer: Explainer
    inside: Callable[[], Mapping[str, object]]
    has_started: Callable[[], bool]

    async def find(self, reference: str) -> Account:
        """Find one account by ARM id or, where it is the only one of that name, by name.

        Raises:
            HTTPException: 404 or 409, with what to do.
        """
        if reference.startswith("/"):
            try:
                account = await self.store.account(AccountId.parse(reference))
            except IdentifierInvalidError as error:
                raise problem(400, str(error), error.hint) from None
            found = [] if account is None else [account]
        else:
            found = list(await self.store.accounts(name=reference.lower()))
        if not found:
            raise problem(404, f"there is no account {reference!r}", "byokd accounts list shows all")
        if len(found) > 1:
            raise problem(409, f"{len(found)} accounts are named {reference!r}", "give the whole ARM id")
        return found[0]


def problem(status: int, message: str, hint: str) -> HTTPException:
    """Give a refusal as the command line shows it: what, and what to do."""
    return HTTPException(status, detail={"message": message, "hint": hint})
