"""What happens while the daemon is killed. Each leaves the world as it found it, but for newer versions and events."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kills.world import SYSTEM, World

REST = "rest"

Act = Callable[[World], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A piece of a daemon's life.

    Attributes:
        act: what customer and operator do, each step once the one before has shown.
        before: done while the daemon is down; it has come to rest again before the kill may come.
        meanwhile: done while the daemon is down; then the kill may come from its first moment on.
    """

    name: str
    act: Act
    before: Act | None = None
    meanwhile: Act | None = None


async def _rest(world: World) -> None:
    """Nothing happens: healthy checks, and looks for work that find none."""
    await world.as_wanted()


async def _rotate(world: World) -> None:
    """A new version: adopted, rewrapped with stumbles, settled, retired."""
    await world.stumble()
    await world.rotate("alpha")
    await world.as_wanted()


async def _deny(world: World) -> None:
    """A denial: suspected, confirmed, followed; and back."""
    await world.disable("alpha")
    await world.as_wanted()
    await world.enable("alpha")
    await world.as_wanted()


async def _brake(world: World) -> None:
    """What may be our own fault: held by the brake, and let go by an operator's word."""
    await world.brake("engage")
    await world.shut_out()
    await world.held()
    await world.let_in()
    await world.brake("release")
    await world.as_wanted()


async def _accounts(world: World) -> None:
    """An account of a key that nobody else uses: registered, with something to protect, moved twice, deleted."""
    await world.apply("gast", "gamma")
    await world.values.protect("gast", "film")
    await world.apply("gast", SYSTEM)
    await world.apply("gast", "beta")
    await world.as_wanted()
    await world.delete("gast")
    await world.as_wanted()


async def _values(world: World) -> None:
    """What account keys protect: written, written anew, shown, erased; and what else an operator looks at."""
    await world.values.protect("anna", "song")
    await world.values.protect("anna", "film")
    await world.values.revealed()
    await world.values.listed("anna")
    await world.values.remove("anna", "song")
    await world.verified()
    await world.watched()


async def _rotate_meanwhile(world: World) -> None:
    await world.rotate("beta")


async def _start(world: World) -> None:
    """A start with work to do: what happened while nobody looked is noticed and dealt with."""
    await world.as_wanted()


async def _new_service_keys(world: World) -> None:
    await world.add_service_keys()


async def _reseal(world: World) -> None:
    """Newer service keys are there: all is sealed anew under them, and proved."""
    await world.seal_anew()
    await world.as_wanted()


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(REST, _rest),
        Scenario("rotate", _rotate),
        Scenario("deny", _deny),
        Scenario("brake", _brake),
        Scenario("accounts", _accounts),
        Scenario("values", _values),
        Scenario("reseal", _reseal, before=_new_service_keys),
        Scenario("start", _start, meanwhile=_rotate_meanwhile),
    )
}
