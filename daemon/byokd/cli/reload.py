"""`byokd reload`: have a running daemon take its settings anew."""

from http import HTTPStatus
from pathlib import Path

import click

from byokd.cli.daemon_calls import call, json_option, socket_option
from byokd.cli.voice import counted, fail, print_json, say_error


@click.command()
@socket_option
@json_option
def reload(socket_path: Path, as_json: bool) -> None:
    """Have the running daemon read its settings again, and the files that they name.

    All of them are taken, or none: every mistake is named, and so is every setting that needs a restart.
    """
    status, answer = call(socket_path, "POST", "/reload")
    if as_json:
        print_json(answer)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        mistakes = answer["mistakes"]
        for mistake in mistakes:
            say_error(f"{mistake['place']}: {mistake['message']}")
        fail(
            f"nothing was changed: {counted(len(mistakes), 'reason')}",
            hint="the old settings stay in force; mend the file and reload again",
        )
    if not as_json:
        unchanged = "no setting is another one; secrets and certificates were read again"
        click.echo(f"reloaded: {', '.join(answer['changed']) or unchanged}")
