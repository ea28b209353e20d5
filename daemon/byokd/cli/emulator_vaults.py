"""`byokd emulator vault` and `byokd emulator key`: what the owner of a vault would do."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from byokd.cli.emulator_control import act, given, json_option, say_each, say_key, say_vault
from byokd.emulator.vocabulary import Access, Curve, KeyType, Network

if TYPE_CHECKING:
    from byokd.emulator.client import ControlClient
    from byokd.emulator.documents import KeyState

_KEY_OPS: Final = ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey")


class Moment(click.ParamType[int | None]):
    """Epoch seconds, an ISO 8601 time, seconds from now as +N or -N, or `none`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Epoch seconds; None for `none`."""
        text = str(value)
        if text == "none":
            return None
        try:
            if text.startswith(("+", "-")):
                return int(time.time()) + int(text)
            if text.isdigit():
                return int(text)
            moment = datetime.fromisoformat(text)
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        except ValueError:
            self.fail(f"{text!r} is no time: give epoch seconds, 2030-01-31T12:00:00Z, +3600, -60 or none", param, ctx)


@click.group()
def vault() -> None:
    """Make vaults, delete them, close them to us."""


@vault.command("create")
@click.argument("name")
@click.option("--tenant", metavar="GUID", help="The tenant of its owner.")
@click.option("--region", metavar="NAME")
@click.option("--soft-delete-days", type=click.IntRange(7, 90))
@click.option("--purge-protection", is_flag=True, default=None)
@click.option("--settle-seconds", type=float, help="How long deletions and recoveries of keys take to show.")
@click.option("--access", type=click.Choice(list(map(str, Access))), help="Who decides over its keys.")
@json_option
def create_vault(name: str, **options: object) -> None:
    """Make a vault, empty and closed to everyone."""
    act(lambda control: control.create_vault(name, **given(options)), say_vault)


@vault.command("delete")
@click.argument("name")
@json_option
def delete_vault(name: str) -> None:
    """Soft-delete a vault: its name leads nowhere."""
    act(lambda control: control.delete_vault(name), say_vault)


@vault.command("recover")
@click.argument("name")
@json_option
def recover_vault(name: str) -> None:
    """Bring a deleted vault back."""
    act(lambda control: control.recover_vault(name), say_vault)


@vault.command("purge")
@click.argument("name")
@json_option
def purge_vault(name: str) -> None:
    """Drop a deleted vault for ever."""
    act(lambda control: control.purge_vault(name))


@vault.command("firewall")
@click.argument("name")
@click.argument("state", type=click.Choice(["on", "off", "connection"]))
@json_option
def firewall(name: str, state: str) -> None:
    """Close a vault to us (on, or connection: public access off), or open it."""
    network = {"on": Network.FIREWALL, "off": Network.OPEN}.get(state, Network.CONNECTION)
    act(lambda control: control.change_vault(name, network=network), say_vault)


@vault.command("access")
@click.argument("name")
@click.argument("kind", type=click.Choice(list(map(str, Access))))
@json_option
def access(name: str, kind: str) -> None:
    """Have a vault go by role assignments or by its own access policies: what was granted by the other is void."""
    act(lambda control: control.change_vault(name, access=Access(kind)), say_vault)


@vault.command("set")
@click.argument("name")
@click.option("--region", metavar="NAME")
@click.option("--soft-delete/--no-soft-delete", default=None)
@click.option("--purge-protection/--no-purge-protection", default=None)
@json_option
def set_vault(name: str, **change: object) -> None:
    """Change what is set of a vault; in Azure some of this takes a new vault of the same name."""
    act(lambda control: control.change_vault(name, **given(change)), say_vault)


@vault.command("reader")
@click.argument("name")
@click.argument("state", type=click.Choice(["on", "off"]))
@click.option("--principal", default="system", show_default=True, metavar="NAME", help="By name, or an object id.")
@json_option
def reader(name: str, state: str, principal: str) -> None:
    """Let an identity read the vault at Azure Resource Manager, or not any more."""
    act(lambda control: control.set_reader(name, principal, present=state == "on"), say_vault)


@vault.command("move")
@click.argument("name")
@click.argument("tenant")
@json_option
def move_vault(name: str, tenant: str) -> None:
    """Move a vault to another tenant."""
    act(lambda control: control.change_vault(name, tenant=tenant), say_vault)


@vault.command("revoke-tokens")
@click.argument("name")
@json_option
def revoke_tokens(name: str) -> None:
    """Let a vault refuse every token issued until now (continuous access evaluation)."""
    act(lambda control: control.revoke_tokens(name), say_vault)


@click.group()
def key() -> None:
    """Make keys, rotate, disable, delete and recover them."""


def _attribute_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--type", type=click.Choice([str(one) for one in KeyType])),
        click.option("--size", type=int, help="Bits of an RSA key."),
        click.option("--curve", type=click.Choice([str(one) for one in Curve])),
        click.option("--enabled/--disabled", default=None),
        click.option("--nbf", type=Moment(), help="Not before: epoch seconds, ISO 8601, or +N or -N from now."),
        click.option("--exp", type=Moment(), help="Expires at."),
        click.option("--key-op", "key_ops", type=click.Choice(_KEY_OPS), multiple=True),
    ):
        command = option(command)
    return command


@key.command("create")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@_attribute_options
@json_option
def create_key(vault_name: str, name: str, **attributes: object) -> None:
    """Make a key, RSA 2048 unless told otherwise."""
    act(lambda control: control.create_key(vault_name, name, **given(attributes)), say_key)


@key.command("rotate")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@_attribute_options
@json_option
def rotate_key(vault_name: str, name: str, **attributes: object) -> None:
    """Make a new version, like the newest but for what is given."""
    act(lambda control: control.rotate_key(vault_name, name, **given(attributes)), say_key)


@key.command("disable")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@click.option("--version", default="all", show_default=True, help="An id, newest, or all.")
@json_option
def disable_key(vault_name: str, name: str, version: str) -> None:
    """Disable versions."""
    act(lambda control: control.disable_key(vault_name, name, version), say_key)


@key.command("enable")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@click.option("--version", default="all", show_default=True, help="An id, newest, or all.")
@json_option
def enable_key(vault_name: str, name: str, version: str) -> None:
    """Enable versions."""
    act(lambda control: control.enable_key(vault_name, name, version), say_key)


@key.command("set")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@click.option("--version", default="newest", show_default=True, help="An id, newest, or all.")
@click.option("--nbf", type=Moment(), help="Not before: epoch seconds, ISO 8601, +N or -N from now, or none.")
@click.option("--exp", type=Moment(), help="Expires at.")
@click.option("--key-op", "key_ops", type=click.Choice(_KEY_OPS), multiple=True, help="Allow these only.")
@click.pass_context
@json_option
def set_key(context: click.Context, /, vault_name: str, name: str, version: str, **change: object) -> None:
    """Change the attributes of versions."""
    default = click.core.ParameterSource.DEFAULT
    given = {name: one for name, one in change.items() if context.get_parameter_source(name) is not default}
    body: dict[str, Any] = {name: list(one) if isinstance(one, tuple) else one for name, one in given.items()}
    act(lambda control: control.change_key(vault_name, name, version, **body), say_key)


@key.command("delete")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@json_option
def delete_key(vault_name: str, name: str) -> None:
    """Soft-delete a key."""
    act(lambda control: control.delete_key(vault_name, name), say_key)


@key.command("recover")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@json_option
def recover_key(vault_name: str, name: str) -> None:
    """Bring a soft-deleted key back."""
    act(lambda control: control.recover_key(vault_name, name), say_key)


@key.command("purge")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@json_option
def purge_key(vault_name: str, name: str) -> None:
    """Drop a soft-deleted key for ever."""
    act(lambda control: control.purge_key(vault_name, name))


@key.command("list")
@click.argument("vault_name", metavar="VAULT")
@json_option
def list_keys(vault_name: str) -> None:
    """Show the keys of a vault, deleted ones too."""

    async def keys(control: "ControlClient") -> "list[KeyState]":
        state = await control.vault(vault_name)
        return state["keys"] + state["deleted_keys"]

    act(keys, say_each(say_key, none="no keys"))
