"""``python -m tests.benchmarks [--agent container] [NAME...]``: measures, prints one table, writes ``build/bench.json``.

With ``--agent container`` the agent is in its image; the file is then ``build/bench-container.json``. Where Docker
cannot start that image with all privileges, use ``python -m tests.machine``.
"""

import argparse
import importlib
import os
import signal
import sys

from tests.benchmarks.figures import Figure, table, write
from tests.benchmarks.stage import IN_CONTAINER, TREE, Unmeasurable

ALL = ("plugins", "launch", "bursts", "footprint", "restarts", "ecs")
MORE = ("starts", "trace", "ecs_short", "ecs_trace")
"""Only on demand: what concerns one question only; some print tables of their own and no figures."""


def main(arguments: list[str]) -> int:
    """Run the chosen benchmarks, or all. The exit code: 1 if one could not be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join((*ALL, *MORE))}")
    parser.add_argument(
        "--agent", choices=("process", "container"), default="process", help="how it is started"
    )
    options = parser.parse_args(arguments)
    chosen: list[str] = options.names
    if unknown := set(chosen) - {*ALL, *MORE}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*ALL, *MORE))}")
    file = "bench.json"
    if options.agent == "container":
        os.environ[IN_CONTAINER] = "true"
        file = "bench-container.json"
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
        write(TREE / "build" / file, figures)
    return 1 if failed else 0


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    # Also when it is told to end: without this, what was made for the benchmark would stay.
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
