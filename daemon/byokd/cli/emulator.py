"""`byokd emulator`: runs Azure in miniature, and does to it what a customer or bad luck would do."""

import asyncio
import json
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from byokd.cli.emulator_control import (
    JSON,
    URL,
    RefusedError,
    act,
    given,
    json_option,
    say_calls,
    say_fault,
    say_principal,
    say_state,
    say_vault,
)
from byokd.cli.emulator_roles import role
from byokd.cli.emulator_subscriptions import subscription
from byokd.cli.emulator_vaults import key, vault
from byokd.emulator.vocabulary import (
    ALL_VAULTS,
    ARM,
    ENCRYPTION_USER,
    ENTRA,
    EVENT_GRID,
    MANAGED_IDENTITY,
    Dialect,
    FaultKind,
    Operation,
    Permission,
)

if TYPE_CHECKING:
    from byokd.emulator.client import ControlClient


@click.group("emulator")
@click.option("--control", metavar="URL", envvar="BYOKD_EMULATOR", help="Control API of the emulator to act on.")
@click.pass_context
def emulator(context: click.Context, control: str | None) -> None:
    """Azure in miniature: run it, and do what a customer, an administrator or bad luck would do."""
    context.meta[URL] = control


@emulator.command()
@click.option("--tls-port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="Where ca.pem is written.")
@click.option("--key-pool", type=click.IntRange(min=1), help="Make at most N distinct RSA keys of each size.")
@json_option
def run(tls_port: int, http_port: int, state_dir: Path | None, key_pool: int | None) -> None:
    """Run until SIGTERM or SIGINT. Prints its addresses when it is ready."""
    from byokd.emulator import Emulator, KeyMaker  # noqa: PLC0415 - PyJWT is an optional dependency

    as_json = click.get_current_context().meta.get(JSON)

    async def serve(directory: Path) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with Emulator.start(
            state_dir=directory, tls_port=tls_port, http_port=http_port, keys=KeyMaker(key_pool)
        ) as running:
            ready = {"tls": str(running.tls_address), "control": running.http_url, "ca": str(running.ca_file)}
            words = f"vaults and Entra ID on {ready['tls']}, trusted by {ready['ca']}; --control {ready['control']}"
            click.echo(json.dumps(ready) if as_json else words)
            await stop.wait()

    with ExitStack() as stack:
        directory = state_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byokd-emulator-")))
        try:
            asyncio.run(serve(directory))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RefusedError(f"the emulator cannot start: {reason}", "check the ports and --state-dir") from None


emulator.add_command(vault)
emulator.add_command(key)
emulator.add_command(role)
emulator.add_command(subscription)


def _permission_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.argument("permissions", nargs=-1, type=click.Choice([str(one) for one in Permission])),
        click.argument("vault_name", metavar="VAULT"),
        click.option("--principal", default="system", show_default=True, help="A name, or an object id."),
        click.option("--key", "key_name", help="For one key only."),
        click.option("--delay", type=float, default=0.0, show_default=True, help="Seconds until it is in force."),
    ):
        command = option(command)
    return command


@emulator.command()
@_permission_options
@json_option
def grant(vault_name: str, permissions: tuple[str, ...], principal: str, key_name: str | None, delay: float) -> None:
    """Give permissions; without any named, get, wrapKey and unwrapKey."""
    wanted = permissions or ENCRYPTION_USER
    act(lambda control: control.grant(vault_name, principal, wanted, key=key_name, delay_seconds=delay), say_vault)


@emulator.command()
@_permission_options
@json_option
def revoke(vault_name: str, permissions: tuple[str, ...], principal: str, key_name: str | None, delay: float) -> None:
    """Take permissions away; without any named, all."""
    wanted = permissions or tuple(Permission)
    act(lambda control: control.revoke(vault_name, principal, wanted, key=key_name, delay_seconds=delay), say_vault)


@emulator.group()
def identity() -> None:
    """Make managed identities and take them away."""


@identity.command("create")
@click.argument("name")
@click.option("--tenant", metavar="GUID")
@json_option
def create_identity(name: str, tenant: str | None) -> None:
    """Make a user-assigned identity."""
    act(lambda control: control.create_identity(name, tenant=tenant), say_principal)


@identity.command("delete")
@click.argument("name")
@json_option
def delete_identity(name: str) -> None:
    """Take an identity away, the system-assigned one by the name `system`."""
    act(lambda control: control.delete_principal(name))


@identity.command("detach")
@click.argument("name")
@json_option
def detach_identity(name: str) -> None:
    """Take an identity away from the machine; it stays what it is, with its grants."""
    act(lambda control: control.detach_identity(name), say_principal)


@identity.command("attach")
@click.argument("name")
@json_option
def attach_identity(name: str) -> None:
    """Give an identity back to the machine."""
    act(lambda control: control.attach_identity(name), say_principal)


@emulator.group()
def fault() -> None:
    """Order bad luck, and end it."""


@fault.command(
    "set", epilog=f"TARGET is the name of a vault, {ALL_VAULTS}, {ENTRA}, {MANAGED_IDENTITY}, {ARM} or {EVENT_GRID}."
)
@click.argument("target")
@click.argument("kind", type=click.Choice([str(one) for one in FaultKind]))
@click.option("--operation", "operations", type=click.Choice([str(one) for one in Operation]), multiple=True)
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), help="Of the requests that it meets.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many.")
@click.option("--for", "duration_seconds", type=float, metavar="SECONDS", help="End after so long.")
@click.option("--seconds", type=float, help="Length of a latency or hang.")
@click.option("--retry-after", type=int)
@click.option("--status", type=click.IntRange(400, 599))
@click.option("--code")
@click.option("--inner", help="Inner code, or AADSTS number.")
@click.option("--versions-back", type=click.IntRange(min=1), help="Age of a stale read.")
@json_option
def set_fault(target: str, kind: str, **options: object) -> None:
    """Order bad luck for a vault, * (all vaults), entra, managed-identity, arm or event-grid."""
    act(lambda control: control.set_fault(target, kind, **given(options)), say_fault)


@fault.command("clear")
@click.option("--number", type=int, help="One fault.")
@click.option("--target", help="All faults of a target.")
@json_option
def clear_faults(number: int | None, target: str | None) -> None:
    """End one fault, those of a target, or all."""

    async def clear(control: "ControlClient") -> dict[str, int]:
        return {"cleared": await control.clear_faults(number=number, target=target)}

    act(clear, lambda document: f"{document['cleared']} ended")


@emulator.command()
@click.argument("name", type=click.Choice([str(one) for one in Dialect]))
@click.argument("state", type=click.Choice(["on", "off"]))
@json_option
def dialect(name: str, state: str) -> None:
    """Switch between behaviours where what is known of Key Vault disagrees."""
    act(lambda control: control.set_dialects({Dialect(name): state == "on"}), say_state)


@emulator.command()
@click.option("--reset", is_flag=True, help="Count anew afterwards.")
@json_option
def calls(*, reset: bool) -> None:
    """Show what was asked of every vault, and how it was answered."""
    act(lambda control: control.reset_calls() if reset else control.calls(), say_calls)


@emulator.command()
@json_option
def state() -> None:
    """Show everything that may be seen."""
    act(lambda control: control.state(), say_state)
