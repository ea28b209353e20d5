"""`python -m benchmarks [NAME ...]`: run, print a table, write build/bench.json."""

import asyncio
import gc
import json
import sys
from pathlib import Path

from benchmarks.backlog import backlog_memory
from benchmarks.check_cpu import check_cpu
from benchmarks.hints import hint_to_event
from benchmarks.publishing import publish_rate
from benchmarks.rewraps import rewrap_rate
from byokd.runtime.logs import configure_logs

BENCHMARKS = {
    "backlog_memory": backlog_memory,
    "check_cpu": check_cpu,
    "hint_to_event": hint_to_event,
    "publish_rate": publish_rate,
    "rewrap_rate": rewrap_rate,
}
OUTPUT = Path("build/bench.json")


def main() -> int:
    """Run the named benchmarks, or all."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        print(
            f"error: no benchmark {', '.join(sorted(unknown))}\nhint: there are {', '.join(BENCHMARKS)}",
            file=sys.stderr,
        )
        return 2
    configure_logs("warning")
    gc.freeze()  # as `byokd run` does; the bare loops gain by it too
    figures = {}
    for name in names:
        figures |= asyncio.run(BENCHMARKS[name]())
        # At once: what a later benchmark runs into does not cost the figures of the earlier ones.
        _keep(figures)
    print(f"{'figure':<24} {'median':>8} {'min':>8} {'max':>8}  runs  unit")
    for name, figure in figures.items():
        print(
            f"{name:<24} {figure['value']:>8.3f} {figure['min']:>8.3f} {figure['max']:>8.3f}  {figure['runs']:>4}  "
            f"{figure['unit']}, against {figure['against']}"
        )
    print(f"written to {OUTPUT}")
    return 0


def _keep(figures: dict[str, dict[str, object]]) -> None:
    """Put figures in the place of those of the same names; the others stay as they were measured."""
    try:
        known = json.loads(OUTPUT.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(known | figures, indent=2) + "\n")


sys.exit(main())
