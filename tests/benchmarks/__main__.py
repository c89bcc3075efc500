"""``python -m tests.benchmarks [NAME...]``: measures, prints one table, and writes ``build/bench.json``."""

import importlib
import signal
import sys

from tests.benchmarks.figures import Figure, table, write
from tests.benchmarks.stage import TREE, Unmeasurable

ALL = ("plugins", "launch", "bursts", "footprint", "restarts", "ecs")
MORE = ("trace", "ecs_short", "ecs_trace")
"""Only on demand: they print tables of their own, where the time goes or what a few rounds say, not figures."""


def main(chosen: list[str]) -> int:
    """Run the chosen benchmarks, or all. The exit code: 1 if one could not be done."""
    unknown = set(chosen) - {*ALL, *MORE}
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*ALL, *MORE))}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    failed = False
    for name in chosen or ALL:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        try:
            figures += importlib.import_module(f"tests.benchmarks.{name}").measure()
        except Unmeasurable as why:
            print(f"{name}: {why}", file=sys.stderr)
            failed = True
    if figures:
        print(table(figures))
        write(TREE / "build/bench.json", figures)
    return 1 if failed else 0


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    # Also when it is told to end: without this, what was made for the benchmark would stay.
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
