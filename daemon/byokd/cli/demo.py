"""`byokd demo`: the main job, shown on real parts."""

import asyncio
import json
import signal
import sys
import time

import click

from byokd.cli.voice import ExitCode, fail

WIDTH = 100


@click.command()
@click.option("--broker", metavar="URL", help="Use this broker (mqtt://host:port) instead of starting one.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line per step and a last one with the outcome.")
@click.option(
    "--keep", is_flag=True, help="Leave everything running afterwards, until Ctrl-C, and print its addresses."
)
def demo(broker: str | None, as_json: bool, keep: bool) -> None:
    """Play the story of a customer's key against Azure in miniature, with a real broker, and judge every step.

    Everything runs on 127.0.0.1, in processes of its own and a temporary directory. Exit 1 when a step went wrong.
    """
    try:
        good = asyncio.run(_play(broker, as_json=as_json, keep=keep))
    except ImportError as error:
        fail(f"the demo needs {error.name}", hint='install byokd with its demo parts: pip install "byokd[demo]"')
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    sys.exit(ExitCode.GOOD if good else ExitCode.FOUND_BAD)


async def _play(broker: str | None, *, as_json: bool, keep: bool) -> bool:
    from byokd.demo.processes import ChildFailedError  # noqa: PLC0415 - the demo's parts are optional
    from byokd.demo.stage import set_stage  # noqa: PLC0415
    from byokd.demo.story import Story  # noqa: PLC0415
    from byokd.demo.watcher import BrokerUnusableError  # noqa: PLC0415

    task = asyncio.current_task()
    if task is not None:
        # Ended so it puts everything away, also where SIGINT is ignored, as in the background of a script.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    started = time.monotonic()
    _say(as_json, "Starting a broker, Azure in miniature and the daemon ...")
    try:
        async with set_stage(broker) as stage:
            story = Story(stage)
            vaults = await story.prepare()
            _say(as_json, f"Running after {time.monotonic() - started:.1f} s. A subscriber of its own listens.\n")
            good, steps = True, 0
            for step in story.steps:
                begun = time.monotonic()
                if not as_json:
                    click.echo(f"{steps + 1:>2}. {step.happens}")
                seen = await step.play()
                seconds = time.monotonic() - begun
                good, steps = good and seen.ok, steps + 1
                _heed_cancellation()
                if as_json:
                    line = {"step": step.name, "expected": step.expected, "seen": seen.words}
                    click.echo(json.dumps(line | {"seconds": round(seconds, 3), "ok": seen.ok}))
                else:
                    click.echo(f"    must follow: {step.expected}")
                    click.echo(f"    seen:        {seen.words}  {'ok' if seen.ok else 'NOT OK'}  ({seconds:.1f} s)")
            _say(
                as_json, f"\n{steps} steps in {time.monotonic() - started:.1f} s: {'all ok' if good else 'NOT ALL OK'}"
            )
            for name, why in story.left_out.items():
                _say(as_json, f"left out: {name}: {why}")
            if as_json:
                left_out = {"leftOut": dict(story.left_out)} if story.left_out else {}
                click.echo(json.dumps({"ok": good, "steps": steps, **left_out}))
            if keep:
                await _keep(stage.addresses(vaults), as_json=as_json)
            return good
    except ChildFailedError as error:
        fail(str(error), hint="the lines above are the end of its log")
    except BrokerUnusableError as error:
        fail(str(error), hint="--broker wants mqtt://host:port of an MQTT 5 broker that lets everybody in")


def _heed_cancellation() -> None:
    """Raise CancelledError if this task was told to end: `asyncio.wait_for` of Python 3.11 may swallow that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _keep(addresses: dict[str, object], *, as_json: bool) -> None:
    """Print where everything is and wait to be stopped."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if as_json:
        click.echo(json.dumps({"addresses": addresses}))
    else:
        click.echo("\nEverything goes on running until Ctrl-C:")
        for name, value in addresses.items():
            click.echo(f"  {name:<17} {value if isinstance(value, str) else json.dumps(value)}")
        click.echo(f"\nTry: BYOKD_SOCKET={addresses['socket']} byokd accounts list")
    sys.stdout.flush()
    await stop.wait()


def _say(as_json: bool, words: str) -> None:
    if not as_json:
        click.echo(words)
