"""`byokd republish` against a running daemon and its broker."""

import json

from byokd.demo.stage import Stage
from service.support import apply, byokd, customer, manifest


async def test_states_are_sent_again_on_command_and_it_says_when_they_cannot_be(stage: Stage) -> None:
    watcher, environment = stage.watcher, stage.environment
    await apply(stage, manifest(stage, await customer(stage)))
    assert await watcher.until(lambda: watcher.state("contoso") != {}, seconds=12) is not None
    first = watcher.states["contoso"]

    said = await byokd("republish", environment=environment)
    assert (said.code, said.out, said.err) == (0, "1 event sent again\n", "")
    assert await watcher.until(lambda: watcher.states["contoso"] is not first, seconds=12) is not None
    assert watcher.states["contoso"].event == first.event
    again = await byokd("republish", "--json", environment=environment)
    assert again.code == 0
    assert json.loads(again.out) == {"begun": True, "events": 1, "sent": True, "remaining": 0, "problem": None}

    assert stage.own_broker is not None
    await stage.own_broker.stop()

    async def noticed() -> bool:
        status = await stage.service.ask("/status")
        return not status["components"]["bus"]["ok"]

    assert await watcher.until_true(noticed, seconds=12) is not None
    away = await byokd("republish", "--wait", "0.2", environment=environment)
    assert away.code == 1
    assert away.err.startswith("error: nothing is sent again: the broker is not connected: 127.0.0.1:")
    assert "hint: " in away.err
    as_json = json.loads((await byokd("republish", "--wait", "0", "--json", environment=environment)).out)
    assert (as_json["begun"], as_json["sent"], as_json["remaining"]) == (False, False, 0)
