"""The entry of the ``berth`` command: finds the word, does it, and turns a failure into a message and a code.

The words themselves are data (``vocabulary``). What a word does is imported when it is done.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent import __version__
from agent.cli.failures import FAILED, OK, USAGE, Failure

if TYPE_CHECKING:
    import argparse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``words.EXIT_CODES`` has the codes. The entry point of the ``berth`` script."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["version"], ["--version"]):
        # asked by scripts all the time: not even the parser is needed
        print(f"berth {__version__}")
        return OK
    _print_whatever_can_be_printed()
    name = given[0] if given and not given[0].startswith("-") else ""
    try:
        code = _done(given)
        sys.stdout.flush()
    except Failure as failure:
        _tell(name, failure, as_json="--json" in given)
        return failure.code
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        # the reader has seen enough, as in: berth logs TASK | head; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def _done(given: list[str]) -> int:
    # not at the top: berth version needs none of these
    from agent.cli import help as texts  # noqa: PLC0415
    from agent.cli.parsing import HelpWanted, parse  # noqa: PLC0415
    from agent.cli.vocabulary import word_named  # noqa: PLC0415

    if not given:
        print(texts.overview(), file=sys.stderr)
        return USAGE
    if given[0] in ("-h", "--help"):
        print(texts.overview())
        return OK
    if given[0].startswith("-"):
        raise Failure(
            f"{given[0]}: a word comes first, as in berth ps {given[0]}; berth help lists them", USAGE
        )
    if given[0] == "__complete":
        # what the completion scripts ask; no word for people
        from agent.cli.completion import complete  # noqa: PLC0415

        return complete(given[1:])
    word = word_named(given[0])
    if word is None:
        raise texts.unknown(given[0])
    try:
        chosen = parse(word, given[1:])
    except HelpWanted:
        print(texts.about(word))
        return OK
    if chosen.color != "auto":
        from agent.cli import output  # noqa: PLC0415 - as above

        output.choose(chosen.color)
    module, function = chosen.does.split(":")
    command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), function)
    return command(chosen)


def _tell(name: str, failure: Failure, *, as_json: bool) -> None:
    if not as_json:
        print(f"{f'berth {name}'.rstrip()}: {failure}", file=sys.stderr)
        return
    import json  # noqa: PLC0415 - only here

    error = {"command": name, "message": str(failure), "exit_code": failure.code}
    print(json.dumps({"error": error}, ensure_ascii=False), file=sys.stderr)


def _print_whatever_can_be_printed() -> None:
    # A terminal that knows only ASCII gets \u escapes for the rest, not a traceback.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
