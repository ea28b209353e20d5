"""What the verbs of `byokd emulator` share: they act over the control API and say what came of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from byokd.emulator.client import ControlClient
    from byokd.emulator.documents import CallCount, FaultState, KeyState, PrincipalState, VaultState, WorldState

URL: Final = "byokd.emulator.url"
JSON: Final = "byokd.emulator.json"
"""Where the context of click keeps what the options said."""
Action = Callable[["ControlClient"], Awaitable[Any]]


class RefusedError(click.ClickException):
    """What could not be done, why, and what to do; exit status 1."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it to standard error."""
        click.echo(f"byokd: {self.message}\nhint: {self.hint}", file=file, err=True)


def _remember(context: click.Context, _: click.Parameter, as_json: object) -> None:
    context.meta[JSON] = bool(as_json)


json_option = click.option("--json", is_flag=True, expose_value=False, callback=_remember, help="Print JSON.")


def act(action: Action, say: Callable[[Any], str] = lambda _: "done") -> None:
    """Do it over the control API; print the answer in words, or as it came with --json."""
    from byokd.emulator.client import ControlClient, ControlError  # noqa: PLC0415 - aiohttp is for those who act

    meta = click.get_current_context().meta
    url = meta.get(URL)
    if url is None:
        raise click.UsageError("which emulator? give --control URL or set BYOKD_EMULATOR")

    async def act() -> object:
        async with ControlClient(url) as control:
            return await action(control)

    try:
        document = asyncio.run(act())
    except ControlError as error:
        raise RefusedError(error.message, error.hint) from None
    click.echo(json.dumps({} if document is None else document) if meta.get(JSON) else say(document))


def say_each(say: Callable[[Any], str], *, none: str) -> Callable[[Sequence[Any]], str]:
    """Give what says a list: each by itself, or that there is none."""
    return lambda found: "\n".join(map(say, found)) or none


def say_vault(vault: "VaultState") -> str:
    """A vault in a line."""
    state = "deleted" if vault["deleted"] else f"network {vault['network']}"
    names = ", ".join(one["name"] for one in vault["keys"]) or "none"
    return f"vault {vault['name']} ({vault['url']}): {state}; keys: {names}; grants: {len(vault['grants'])}"


def say_key(key: "KeyState") -> str:
    """A key, and a line for each version."""
    lines = [f"key {key['name']}: {'deleted' if key['deleted'] else 'newest version ' + key['newest']}"]
    for one in key["versions"]:
        times = "".join(f", {name} {one[name]}" for name in ("nbf", "exp") if one[name] is not None)
        state = "enabled" if one["enabled"] else "disabled"
        lines.append(f"  {one['version']}  {one['type']} {one['size']}, {state}{times}")
    return "\n".join(lines)


def say_state(state: "WorldState") -> str:
    """All there is, line by line."""
    people = [f"{one['kind']} {one['name']}: client id {one['client_id']}" for one in state["principals"]]
    faults = [say_fault(one) for one in state["faults"]]
    return "\n".join([*people, *(say_vault(one) for one in state["vaults"]), *faults])


def say_fault(fault: "FaultState") -> str:
    """A fault in a line."""
    limits = [f"{fault['share']:.0%}"] + ([f"{fault['count']} times"] if fault["count"] else [])
    return f"fault {fault['id']}: {fault['kind']} on {fault['target']}, {', '.join(limits)}"


def say_principal(principal: "PrincipalState") -> str:
    """An identity or application in a line."""
    return f"{principal['kind']} {principal['name']}: client id {principal['client_id']}"


def say_calls(counts: "list[CallCount]") -> str:
    """A line for each counter."""
    rows = [
        (f"{one['count']:>7}", one["target"], one["operation"], str(one["status"] or "no answer"), one["code"])
        for one in counts
    ]
    return "\n".join("  ".join(row).rstrip() for row in rows) or "no calls"


def given(values: Mapping[str, object]) -> dict[str, Any]:
    """The options that were given, without those that were left out."""
    return {name: list(one) if isinstance(one, tuple) else one for name, one in values.items() if one not in (None, ())}
