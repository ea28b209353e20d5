"""`make simulate`: many seeds, some of them twice; or one with its trace; or with a bug planted."""
# ruff: noqa: T201 - it prints what it found

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from parts import collector
from simulation import bugs, report
from simulation.seed import ERROR, Lived, live

TWICE_EVERY = 10
LAST_LINES = 40
FOUND_WITHIN = 200
BUILD = Path("build")


def main() -> int:
    """Do what is asked for; 0: good."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int)
    parser.add_argument("--bug")
    parser.add_argument("--known", nargs="*", help="look for these bugs from the seeds on that found them last")
    parser.add_argument("--digests", nargs="*", type=int, help="print the digests of these seeds, as JSON")
    asked = parser.parse_args()
    collector.spare()
    if asked.digests is not None:
        print(json.dumps([live(seed).digest for seed in asked.digests]))
        return 0
    if asked.bug == "list":
        print("\n".join(bugs.BUGS))
        return 0
    if asked.seed is not None:
        return _show(asked.seed, asked.bug)
    if asked.known is not None:
        return _known_bugs(asked.known, asked.seeds or FOUND_WITHIN)
    return _asked(asked)


def _asked(asked: argparse.Namespace) -> int:
    """Live through many seeds, with or without bugs."""
    seeds = range(asked.first, asked.first + (asked.seeds or FOUND_WITHIN))
    if asked.bug == "all":
        return _all_bugs(seeds, asked.jobs)
    if asked.bug:
        return 0 if _find(asked.bug, seeds, asked.jobs) else 1
    return _run(seeds, asked.jobs)


def _show(seed: int, bug: str | None) -> int:
    if bug:
        bugs.plant(bug)
    lived = live(seed, whole=True)
    print("\n".join(lived.lines))
    print(f"seed {seed}: {lived.hours:.2f} simulated hours, digest {lived.digest}")
    if lived.invariant:
        print(f"VIOLATED {lived.invariant}: {lived.what}")
    return 1 if lived.invariant else 0


def _lives(seeds: Sequence[int], bug: str | None) -> list[Lived]:
    """In a process of the pool: run seeds, up to the first that fails where a bug is looked for."""
    if bug and bug not in _planted:
        bugs.plant(bug)
        _planted.append(bug)
    results = []
    for seed in seeds:
        results.append(live(seed))
        if bug and results[-1].invariant not in {None, ERROR}:
            break
    return results


_planted: list[str] = []


def _chunks(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]


def _run(seeds: range, jobs: int) -> int:
    begun, reached, hours = time.monotonic(), Counter[str](), 0.0
    lived: dict[int, Lived] = {}
    with ProcessPoolExecutor(jobs) as pool:
        doing = [pool.submit(_lives, chunk, None) for chunk in _chunks(seeds, 20)]
        for done in as_completed(doing):
            for one in done.result():
                lived[one.seed] = one
                reached += one.reached
                hours += one.hours
        twice = seeds[::TWICE_EVERY]
        again = [pool.submit(_elsewhere, chunk) for chunk in _chunks(twice, 25)]
        digests = {seed: digest for done in again for seed, digest in done.result()}
    failed = [lived[seed] for seed in seeds if lived[seed].invariant]
    unlike = [seed for seed in twice if digests[seed] != lived[seed].digest]
    missing = report.missed(reached, seeds=len(seeds))
    whole = hashlib.sha256("".join(lived[seed].digest for seed in seeds).encode()).hexdigest()
    print(report.table(reached))
    seconds = time.monotonic() - begun
    print(
        f"\n{len(seeds)} seeds, {hours:.0f} simulated hours in {seconds:.0f} s; {len(twice)} of them twice,"
        f" under another PYTHONHASHSEED: {len(twice) - len(unlike)} alike\ndigest {whole}"
    )
    for one in failed[:5]:
        _complain(one)
    for seed in unlike:
        print(f"NOT THE SAME TWICE: seed {seed}\nrerun: make simulate SEED={seed}")
    if missing:
        print(f"NEVER REACHED: {', '.join(missing)}")
    facts = {"seeds": len(seeds), "first": seeds[0], "hours": round(hours, 1), "seconds": round(seconds, 1)}
    failures = {one.seed: one.invariant for one in failed}
    report.write(
        BUILD / "simulate.json", **facts, digest=whole, reached=reached, failed=failures, unlike=unlike, missing=missing
    )
    return 1 if failed or unlike or missing else 0


def _complain(lived: Lived) -> None:
    print("\n".join(lived.lines[-LAST_LINES:]))
    print(f"VIOLATED in seed {lived.seed}: {lived.invariant}: {lived.what}\nrerun: make simulate SEED={lived.seed}\n")


def _elsewhere(seeds: Sequence[int]) -> list[tuple[int, str]]:
    """Run seeds in a process of its own, in which sets and dictionaries have another order."""
    other = str(int(os.environ.get("PYTHONHASHSEED", "0").replace("random", "0")) + 4242)
    command = [sys.executable, "-m", "simulation", "--digests", *map(str, seeds)]
    out = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": other}, check=True, capture_output=True, text=True
    ).stdout
    return list(zip(seeds, json.loads(out), strict=True))


def _find(bug: str, seeds: range, jobs: int) -> Lived | None:
    """Plant a bug and run seeds until one shows it; say which."""
    begun = time.monotonic()
    found: list[Lived] = []
    with ProcessPoolExecutor(jobs) as pool:
        # A pool of one has the next chunk begun before it is known whether the last one was enough.
        doing = [pool.submit(_lives, chunk, bug) for chunk in _chunks(seeds, 5 if jobs > 1 else 1)]
        for done in as_completed(doing):
            found += [one for one in done.result() if one.invariant not in {None, ERROR}]
            if found:
                pool.shutdown(wait=True, cancel_futures=True)
                break
    first = min(found, key=lambda one: one.seed, default=None)
    what = "not found" if first is None else f"seed {first.seed:>4}  {first.invariant}"
    print(f"{bug:<40} {what:<60} {time.monotonic() - begun:6.1f} s", flush=True)
    return first


def _known_bugs(names: Sequence[str], most: int) -> int:
    known = json.loads(bugs.FOUND.read_text())
    firsts = {name: known[name]["seed"] for name in names}
    return 1 if None in [_find(name, range(first, first + most), 1) for name, first in firsts.items()] else 0


def _all_bugs(seeds: range, jobs: int) -> int:
    found = {bug: _find(bug, seeds, jobs) for bug in bugs.BUGS}
    report.write(
        bugs.FOUND,
        **{bug: None if one is None else {"seed": one.seed, "by": one.invariant} for bug, one in found.items()},
    )
    return 1 if None in found.values() else 0


if __name__ == "__main__":
    sys.exit(main())
