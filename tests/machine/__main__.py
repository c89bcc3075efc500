"""``python -m tests.machine [--load ARCHIVE]... -- COMMAND...``: run a command in a machine of its own."""

import argparse
import sys
from pathlib import Path

from tests.machine.outside import run


def main() -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.machine", description=__doc__)
    parser.add_argument(
        "--load", action="append", default=[], type=Path, metavar="ARCHIVE", help="an image for its Docker"
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    chosen = parser.parse_args()
    return run(chosen.command, load=[each.resolve() for each in chosen.load])


if __name__ == "__main__":
    sys.exit(main())
