"""`byokd accounts ...`: the customers' accounts of a running daemon."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from byokd.cli import values
from byokd.cli.daemon_calls import call, json_option, lines_of, socket_option
from byokd.cli.voice import ExitCode, counted, fail, print_json, print_table, say_error

_FORMATS = {".yaml": "yaml", ".yml": "yaml", ".json": "yaml", ".toml": "toml"}


@click.group()
def accounts() -> None:
    """Create, change, look at and delete accounts, and what their keys protect."""


for _command in (values.protect, values.reveal, values.unprotect, values.values):
    accounts.add_command(_command)


@accounts.command()
@click.option(
    "-f", "--file", "path", type=click.Path(path_type=Path), required=True, help="Accounts file, YAML or TOML."
)
@socket_option
@json_option
def apply(path: Path, socket_path: Path, as_json: bool) -> None:
    """Bring accounts to what a file says.

    Applying the same file again changes nothing. Accounts that the file does not name are left alone. A file with any
    mistake in it is refused whole.
    """
    file_format = _FORMATS.get(path.suffix.lower())
    if file_format is None:
        fail(f"{path}: neither YAML nor TOML by its name", hint="name it .yaml or .toml", code=ExitCode.USAGE)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", code=ExitCode.USAGE)
    except UnicodeDecodeError:
        fail(f"{path}: is not UTF-8 text", code=ExitCode.USAGE)
    answer = _applied(socket_path, {"format": file_format, "text": text}, told=not as_json)
    if as_json:
        print_json(answer)
    if "mistakes" in answer:
        if not as_json:
            _tell_mistakes(path, answer["mistakes"])
        sys.exit(ExitCode.FOUND_BAD)
    refused = [result for result in answer["results"] if result["action"] == "refused"]
    if not as_json:
        _tell_results(answer["results"])
    sys.exit(ExitCode.FOUND_BAD if refused else ExitCode.GOOD)


def _applied(socket_path: Path, request: dict[str, str], *, told: bool) -> dict[str, Any]:
    """Give the last word on an apply, having told meanwhile of what it waits for."""
    results: list[Any] = []
    for line in lines_of(socket_path, "POST", "/accounts/apply", body=request):
        if "mistakes" in line:
            return dict(line)
        if "applied" in line:
            return {"results": results}
        if "result" in line:
            results.append(line["result"])
        elif told:
            number = counted(line["waiting"], "account")
            click.echo(f"waiting: a vault refuses {number} yet; a fresh grant takes a while to be known", err=True)
    return fail("the daemon stopped before all was applied", hint="apply the file again: what is done stays done")


@accounts.command(name="list")
@socket_option
@json_option
def list_accounts(socket_path: Path, as_json: bool) -> None:
    """List all accounts with their states."""
    _, found = call(socket_path, "GET", "/accounts")
    if as_json:
        print_json(found)
        return
    print_table(
        [
            {
                "account": account["name"],
                "state": account["state"] + _beside(account),
                "reason": account["reason"] or "-",
                "since": account["since"],
                "key": account["encryption"]["currentKeyIdentifier"] or account["encryption"]["type"],
            }
            for account in found
        ]
    )


@accounts.command()
@click.argument("account")
@socket_option
@json_option
def show(account: str, socket_path: Path, as_json: bool) -> None:
    """Show one account, by ARM id or name."""
    _, found = call(socket_path, "GET", "/account", ref=account)
    print_json(found) if as_json else _show(found)


@accounts.command()
@click.argument("account")
@socket_option
@json_option
def delete(account: str, socket_path: Path, as_json: bool) -> None:
    """Delete an account and its account key, for good."""
    _, answer = call(socket_path, "DELETE", "/account", ref=account)
    print_json(answer) if as_json else click.echo(f"deleted    {_name(answer['id'])}")


@accounts.command()
@click.argument("account")
@click.option("--identity", help="Another identity, by its name in the settings.")
@click.option("--tenant", help="Another tenant, a GUID.")
@socket_option
@json_option
def repair(account: str, identity: str | None, tenant: str | None, socket_path: Path, as_json: bool) -> None:
    """Give an Inaccessible account another identity or tenant.

    Only if that identity unwraps the present account key now. Nothing is changed otherwise.
    """
    body = {"identity": identity, "tenant": tenant}
    _, result = call(socket_path, "POST", "/account/repair", ref=account, body=body)
    print_json(result) if as_json else _tell_results([result])
    sys.exit(ExitCode.FOUND_BAD if result["action"] == "refused" else ExitCode.GOOD)


@accounts.command()
@click.argument("account")
@socket_option
@json_option
def check(account: str, socket_path: Path, as_json: bool) -> None:
    """Check an account's key now. Exit 1 when the version that wraps the account is not usable."""
    _, answer = call(socket_path, "POST", "/account/check", ref=account)
    own = [observation for observation in answer["observations"] if observation["wrapsAccount"]]
    usable = bool(own) and all(observation["outcome"] == "Usable" for observation in own)
    usable = usable and not answer["account"]["damagedSince"]
    if as_json:
        print_json(answer)
    else:
        for observation in answer["observations"]:
            reason = f" ({observation['reason']})" if observation["reason"] else ""
            role = "wraps this account" if observation["wrapsAccount"] else "not this account's any more, or not yet"
            click.echo(f"{observation['outcome']}{reason}: {observation['keyIdentifier']}  ({role})")
            click.echo(f"  {observation['message']}")
            if observation["confirming"]:
                click.echo(f"  does not count yet: byokd explain {answer['account']['name']} says from when on it does")
        _tell_warnings(answer["warnings"])
        account_now = answer["account"]
        if account_now["damagedSince"]:
            say_error(f"the account is damaged since {account_now['damagedSince']}: {account_now['damage']}")
        click.echo(f"the account is {account_now['state']}; next check {answer['nextCheck']}")
    sys.exit(ExitCode.GOOD if usable else ExitCode.FOUND_BAD)


def _show(account: dict[str, Any]) -> None:
    encryption, suspicion, unverified = account["encryption"], account["suspicion"], account["unverified"]
    held = suspicion if suspicion and suspicion["heldSince"] else None
    rows = {
        "id": account["id"],
        "state": account["state"],
        "reason": account["reason"],
        # What was told with the state says the contrary of what was seen since.
        "message": None if suspicion or account["damagedSince"] else account["message"],
        "since": account["since"],
        "unverified": None if unverified is None else f"{unverified['reason']}, since {unverified['since']}",
        "suspected": None if suspicion is None or held else _denial(suspicion),
        "held by the brake": None if held is None else f"{_denial(held)}, until {held['heldUntil']} at most",
        "damaged since": account["damagedSince"],
        "damage": account["damage"],
        "tenant": account["tenant"],
        "location": account["location"],
        "encryption": encryption["type"],
        "key": encryption["keyIdentifier"],
        "current key": encryption["currentKeyIdentifier"],
        "identity": encryption["identity"],
        "generation": account["generation"],
        "created": account["createdAt"],
        "updated": account["updatedAt"],
    }
    for name, value in rows.items():
        if value is not None:
            click.echo(f"{name:<17} {value}")
    _tell_warnings(account["warnings"])
    if _beside(account):
        click.echo(f"byokd explain {account['name']} says what works, what does not, and what mends it")


def _beside(account: dict[str, Any]) -> str:
    """Say what the state does not: that it is in doubt, or that the account key cannot be used all the same."""
    suspicion, unverified, words = account["suspicion"], account["unverified"], []
    if suspicion is not None:
        words.append(f"{'held' if suspicion['heldSince'] else 'suspected'}: {suspicion['reason']}")
    if unverified is not None and (suspicion is None or unverified["reason"] != suspicion["reason"]):
        words.append(f"unverified: {unverified['reason']}")
    if account["damagedSince"]:
        words.append("damaged")
    return f" ({', '.join(words)})" if words else ""


def _denial(suspicion: dict[str, Any]) -> str:
    return f"{suspicion['reason']}: {suspicion['message']}, since {suspicion['since']}"


def _tell_warnings(warnings: list[dict[str, Any]]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning['kind']}: {warning['message']}")


def _tell_results(results: list[dict[str, Any]]) -> None:
    for result in results:
        click.echo(f"{result['action']:<10} {_name(result['account'])}")
    for result in results:
        for warning in result["warnings"]:
            click.echo(f"warning: {_name(result['account'])}: {warning}", err=True)
        if result["action"] == "refused":
            say_error(f"{_name(result['account'])}: {result['message']}", hint=result["hint"])
            for command in result["commands"]:
                click.echo(f"  {command}", err=True)
    if len(results) > 1:
        numbers = Counter(result["action"] for result in results)
        summary = ", ".join(f"{number} {action}" for action, number in sorted(numbers.items()))
        click.echo(f"applied {len(results)} accounts: {summary}", err=True)


def _tell_mistakes(path: Path, mistakes: list[dict[str, Any]]) -> None:
    for mistake in mistakes:
        click.echo(f"{path}:{mistake['line']}: {mistake['place']}: {mistake['message']}", err=True)
    number = counted(len(mistakes), "mistake")
    say_error(f"nothing was applied: {number} in {path}", hint="mend the file and apply it again")


def _name(account_id: str) -> str:
    return account_id.rpartition("/")[2]
