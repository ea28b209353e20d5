"""`byokd emulator subscription`: has Event Grid deliver to a webhook."""

from typing import TYPE_CHECKING, Any

import click

from byokd.cli.emulator_control import act, given, json_option, say_each
from byokd.emulator.vocabulary import EndpointType, EventType, Schema, Topic

if TYPE_CHECKING:
    from byokd.emulator.subscription_documents import SubscriptionState

_SCHEMAS = {"eventgrid": Schema.EVENT_GRID, "cloudevents": Schema.CLOUD_EVENTS}


@click.group()
def subscription() -> None:
    """Deliver events of a vault to a webhook, or stop it."""


@subscription.command("create")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@click.argument("endpoint", metavar="URL")
@click.option("--endpoint-type", type=click.Choice(list(map(str, EndpointType))), help="A queue is https://.../QUEUE.")
@click.option("--topic", type=click.Choice(list(map(str, Topic))), help="Of the vault, or of ARM about it.")
@click.option("--schema", type=click.Choice(list(_SCHEMAS)), default="eventgrid", show_default=True)
@click.option("--header", "headers", metavar="NAME=VALUE", multiple=True, help="Sent along; the value is a secret.")
@click.option("--token-audience", metavar="ID", help="Send an Entra token for this audience along.")
@click.option("--token-tenant", metavar="GUID", help="By default the vault's.")
@click.option("--token-application", metavar="GUID", help="Who delivers; by default Event Grid's own application.")
@click.option("--token-version", type=click.IntRange(1, 2), help="1 says appid, 2 says azp.")
@click.option("--event-type", "event_types", type=click.Choice(list(map(str, EventType))), multiple=True)
@click.option("--batch-size", type=click.IntRange(1, 5000), help="Events that may come in one request.")
@click.option("--parallel", type=click.IntRange(1, 64), help="Requests under way at once.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False, resolve_path=True))
@click.option("--answer-seconds", type=click.FloatRange(0, 30, min_open=True), help="How long an answer is awaited.")
@click.option("--attempts", type=click.IntRange(1, 30))
@click.option("--wait-scale", type=click.FloatRange(0, 1), help="Shortens every wait before a retry.")
@json_option
def create(vault_name: str, name: str, endpoint: str, **options: Any) -> None:  # noqa: ANN401 - as click has them
    """Deliver the events of a vault to URL, which has to answer the handshake."""
    token = {word: options.pop(f"token_{word}") for word in ("audience", "tenant", "application", "version")}
    if token["audience"] is None and given(token):
        raise click.UsageError("a token needs --token-audience")
    headers = dict(map(_header, options.pop("headers")))
    wanted = {**options, "schema": _SCHEMAS[options["schema"]], "headers": headers, "token": given(token) or None}
    act(lambda control: control.create_subscription(vault_name, name, endpoint, **given(wanted)), say_subscription)


@subscription.command("delete")
@click.argument("vault_name", metavar="VAULT")
@click.argument("name")
@json_option
def delete(vault_name: str, name: str) -> None:
    """End a subscription; what it has not delivered is lost."""
    act(lambda control: control.delete_subscription(vault_name, name))


@subscription.command("list")
@click.argument("vault_name", metavar="VAULT")
@json_option
def list_subscriptions(vault_name: str) -> None:
    """Show the subscriptions of a vault."""
    act(lambda control: control.subscriptions(vault_name), say_each(say_subscription, none="no subscriptions"))


def say_subscription(one: "SubscriptionState") -> str:
    """A subscription in a line."""
    proofs = [f"header {name}" for name in one["headers"]] + (["a token"] if one["token"] else [])
    with_what = f" with {', '.join(proofs)}" if proofs else ""
    return f"subscription {one['name']}: {one['topic']} to {one['endpoint']}{with_what}; {one['waiting']} waiting"


def _header(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise click.UsageError("--header takes NAME=VALUE")
    return name, value
