"""Who has which role where. State and its rules; no I/O, and the time is an argument."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from byokd.emulator.roles import Role
from byokd.emulator.vocabulary import Permission

ASSIGNMENTS: Final = "Microsoft.Authorization/roleAssignments"


@dataclass(slots=True)
class RoleAssignment:
    """A role of a principal at a scope and everything below it: a subscription, resource group, vault or key.

    Vaults go by it from `start` until `end`; ARM lists it as long as it is not `deleted`.
    """

    name: str
    scope: str
    object_id: str
    role: Role
    created: float
    start: float
    end: float | None = None
    deleted: bool = False
    description: str | None = None

    @property
    def id(self) -> str:
        """Its ARM id."""
        return _id(self.scope, self.name)

    def reaches(self, resource: str) -> bool:
        """Whether a resource is its scope, or below it."""
        return is_within(resource, self.scope)

    def is_in_force(self, now: float) -> bool:
        """Whether it is known everywhere, and not yet known everywhere to be gone."""
        return self.start <= now and (self.end is None or now < self.end)


@dataclass(slots=True)
class RoleAssignments:
    """All assignments, by their ARM ids in lower case."""

    _all: dict[str, RoleAssignment] = field(default_factory=dict)

    def __iter__(self) -> Iterator[RoleAssignment]:
        return (one for one in self._all.values() if not one.deleted)

    def get(self, scope: str, name: str) -> RoleAssignment | None:
        """The one of that name at exactly that scope."""
        found = self._all.get(_id(scope, name).lower())
        return None if found is None or found.deleted else found

    def like(self, scope: str, object_id: str, role: Role) -> RoleAssignment | None:
        """The one with the same scope, principal and role, whatever its name."""
        wanted = (scope.lower(), object_id.lower(), role)
        return next((one for one in self if (one.scope.lower(), one.object_id.lower(), one.role) == wanted), None)

    def add(self, assignment: RoleAssignment, *, now: float) -> None:
        """Take one in; one that was deleted and is still in force makes room for it."""
        self._all = {place: one for place, one in self._all.items() if one.end is None or one.end > now}
        self._all[assignment.id.lower()] = assignment

    def delete(self, assignment: RoleAssignment, *, end: float) -> None:
        """ARM forgets it now, vaults at `end`."""
        assignment.deleted, assignment.end = True, end

    def drop_within(self, resource: str) -> None:
        """Forget those at a resource that is gone, and below it."""
        self._all = {place: one for place, one in self._all.items() if not is_within(one.scope, resource)}

    def permits(self, object_id: str, permission: Permission, resource: str, now: float) -> bool:
        """Whether a role lets a principal do something with a key, or the keys of a vault."""
        return any(one.role.permits(permission) for one in self._of(object_id, resource, now))

    def acts(self, object_id: str, action: str, resource: str, now: float) -> bool:
        """Whether a role lets a principal do something at ARM."""
        return any(one.role.acts(action) for one in self._of(object_id, resource, now))

    def _of(self, object_id: str, resource: str, now: float) -> Iterator[RoleAssignment]:
        mine = (one for one in self._all.values() if one.object_id.lower() == object_id.lower())
        return (one for one in mine if one.is_in_force(now) and one.reaches(resource))


def is_within(resource: str, scope: str) -> bool:
    """Whether a resource is a scope or below it, in any case."""
    return f"{resource}/".lower().startswith(f"{scope}/".lower())


def _id(scope: str, name: str) -> str:
    return f"{scope}/providers/{ASSIGNMENTS}/{name}"
