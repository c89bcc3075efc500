"""Writes the pages that follow from the code: ``python -m docs.generate``, or ``--check`` to only compare.

Exit codes: 0 written or current, 1 a page is not current or the code has something that cannot be documented.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from docs.pages import capabilities, cli, lifecycle, log_events, reasons, settings
from docs.pages.problems import Undocumented

DOCS = Path(__file__).resolve().parent

PAGES: dict[str, Callable[[], str]] = {
    "lifecycle.md": lifecycle.page,
    "reasons.md": reasons.page,
    "settings.md": settings.page,
    "log-events.md": log_events.page,
    "capabilities.md": capabilities.page,
    "cli.md": cli.page,
    "man/berth.1": cli.manual,
}


def main(arguments: list[str] | None = None, folder: Path = DOCS) -> int:
    """Write or compare every page."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not current")
    check = parser.parse_args(arguments).check
    failed = False
    for name, page in PAGES.items():
        try:
            text = page()
        except Undocumented as problem:
            print(f"docs/{name}: {problem}", file=sys.stderr)
            failed = True
            continue
        path = folder / name
        is_current = path.exists() and path.read_text(encoding="utf-8") == text
        if is_current:
            continue
        if check:
            print(f"docs/{name} is not current: run python -m docs.generate (or make docs)", file=sys.stderr)
            failed = True
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name} is written")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
