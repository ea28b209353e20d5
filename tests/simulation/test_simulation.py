"""A few hundred worlds of bad luck, the same each time; and bugs that they must find."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from simulation import report
from simulation.bugs import BUGS
from simulation.regressions import REGRESSIONS
from simulation.seed import Lived, live

CHUNKS, SEEDS = 8, 20
PARTS = 3
QUICKLY = 40
"""Seeds to look for a bug in, from the one that found it last; `make simulate BUG=all` looks again from the first."""


def told(lived: Lived) -> str:
    return "\n".join([*lived.lines[-30:], f"{lived.invariant}: {lived.what}", f"make simulate SEED={lived.seed}"])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_that_happens_breaks_a_promise(chunk: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(1 + chunk * SEEDS, 1 + (chunk + 1) * SEEDS):
        lived = live(seed)
        reached += lived.reached
        assert lived.invariant is None, told(lived)
    assert {"adoption", "recovered", "restarts", "event: account.inaccessible", "revealed"} <= reached.keys()


@pytest.mark.parametrize("seed", sorted(REGRESSIONS))
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    lived = live(seed)
    assert lived.invariant is None, told(lived)


def _elsewhere(*arguments: str, hash_seed: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tests), "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-m", "simulation", *arguments],
        env=environment,
        cwd=tests.parent,
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_seed_is_the_same_to_the_event_in_every_process() -> None:
    seeds = (1, 5, 9, 14)
    other = _elsewhere("--digests", *map(str, seeds), hash_seed="4711")
    assert json.loads(other.stdout) == [live(seed).digest for seed in seeds]


@pytest.mark.parametrize("part", range(PARTS))
def test_each_planted_bug_is_found(part: int) -> None:
    found = _elsewhere("--known", *list(BUGS)[part::PARTS], "--seeds", str(QUICKLY), hash_seed="0")
    assert found.returncode == 0, found.stdout + found.stderr


def test_an_empty_world_is_not_green() -> None:
    assert report.missed(Counter(), seeds=report.ENOUGH) == list(report.EXPECTED)
