"""`byokd emulator role`: who has which role at a vault, above it, or at one of its keys."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from byokd.cli.emulator_control import act, given, json_option, say_each
from byokd.emulator.roles import ROLES
from byokd.emulator.vocabulary import Scope

if TYPE_CHECKING:
    from byokd.emulator.role_documents import RoleAssignmentState


@click.group(epilog=f"Roles: {', '.join(role.name for role in ROLES)}; or their ids.")
def role() -> None:
    """Assign roles as ARM has them, and take them away."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.argument("role_name", metavar="ROLE"),
        click.argument("vault_name", metavar="VAULT"),
        click.option("--principal", metavar="NAME", help="By name, or an object id; by default system."),
        click.option("--at", type=click.Choice(list(map(str, Scope))), help="The vault itself, or what it lies in."),
        click.option("--key", metavar="NAME", help="For one key only."),
        click.option("--delay", "delay_seconds", type=float, help="Seconds until vaults know."),
    ):
        command = option(command)
    return command


@role.command("assign")
@_options
@json_option
def assign(vault_name: str, role_name: str, **options: Any) -> None:  # noqa: ANN401 - as click has them
    """Assign ROLE at VAULT, or at its resource group or subscription."""
    act(lambda control: control.assign_role(vault_name, role_name, **given(options)), say_role)


@role.command("remove")
@_options
@json_option
def remove(vault_name: str, role_name: str, **options: Any) -> None:  # noqa: ANN401 - as click has them
    """Delete the assignment that `assign` with the same words made."""
    act(lambda control: control.remove_role(vault_name, role_name, **given(options)), say_role)


@role.command("list")
@click.argument("vault_name", metavar="VAULT")
@json_option
def list_roles(vault_name: str) -> None:
    """Show the assignments that reach VAULT or one of its keys."""
    act(lambda control: control.roles(vault_name), say_each(say_role, none="no role assignments"))


def say_role(one: "RoleAssignmentState") -> str:
    """A role assignment in a line."""
    return f"{one['role']}: {one['principal'] or one['object_id']} at {one['scope']}"
