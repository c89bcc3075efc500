"""The words of the ``berth`` command. Each names the function that does it, imported when it is called."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from agent import __version__
from agent.cli.failures import FAILED, OK, USAGE, Failure

LONGEST_CHECK = 25
"""Seconds for ``berth healthcheck`` (ecs-protocol 0.3)."""

EXIT_CODES = """\
exit codes:
  0  done                      3  no such task, container or cluster
  1  it failed                 4  the agent is not running
  2  wrong use                 5  the agent cannot start and restarting will not help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is in ``EXIT_CODES``. The entry point of the ``berth`` script."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["version"], ["--version"]):
        # asked by scripts all the time: not even the parser is needed
        print(f"berth {__version__}")
        return OK
    try:
        chosen = parser().parse_args(given)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    module, function = chosen.does.split(":")
    command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), function)
    try:
        code = command(chosen)
        sys.stdout.flush()
    except Failure as failure:
        print(f"berth {chosen.command}: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        # the reader has seen enough, as in: berth logs TASK | head; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="berth",
        description="Run awsvpc tasks on the Docker Engine of this machine, with the API of Amazon ECS.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"berth {__version__}")
    words = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_agent_words(words)
    _add_task_words(words)
    return root


def _add_agent_words(words: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    agent = _word(words, "agent", "agent.cli.node:run_agent", "run the agent in the foreground (as root)")
    agent.add_argument(
        "--env-file", metavar="FILE", help="settings as NAME=VALUE lines (/etc/ecs/ecs.config)"
    )

    env = _word(words, "env", "agent.cli.settings:env", 'variables for the AWS CLI: eval "$(berth env)"')
    _takes_json(env)
    config = _word(words, "config", "agent.cli.settings:config", "every setting, its value and its source")
    config.add_argument("--offline", action="store_true", help="do not ask the agent: read the settings here")
    _takes_json(config)
    _takes_json(_word(words, "status", "agent.cli.node:status", "is the agent well, and what runs here"))
    check = _word(
        words, "healthcheck", "agent.cli.healthcheck:healthcheck", "exit code 0 if the agent is well"
    )
    check.add_argument("--timeout", type=_seconds, default=5, metavar="SECONDS", help="1 to 25 (5)")
    _takes_json(check)
    _takes_json(_word(words, "leaks", "agent.cli.node:leaks", "what is left of tasks that are gone"))
    _takes_json(_word(words, "version", "agent.cli.node:version", "the version of this command", where=False))


def _add_task_words(words: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = _word(words, "run", "agent.cli.run:run", "register a task definition and run it")
    run.add_argument(
        "definition", metavar="FILE", help="task definition as JSON; - for stdin; or FAMILY[:REVISION]"
    )
    run.add_argument("--count", type=_positive, default=1, metavar="N", help="how many copies (1)")
    run.add_argument("--subnet", action="append", default=[], metavar="ID", help="subnet of the copies")
    run.add_argument("--wait", action="store_true", help="until all copies are RUNNING or STOPPED")
    run.add_argument(
        "--timeout", type=_positive, default=300, metavar="SECONDS", help="limit of --wait (300)"
    )
    _takes_cluster(run)
    _takes_json(run)

    ps = _word(words, "ps", "agent.cli.tasks:ps", "the tasks of a cluster")
    ps.add_argument("-a", "--all", action="store_true", help="also those that have stopped")
    _takes_cluster(ps)
    _takes_json(ps)

    describe = _about_task(words, "describe", "agent.cli.tasks:describe", "one task with its containers")
    _takes_json(describe)
    logs = _about_task(words, "logs", "agent.cli.logs:logs", "what a task's containers have printed")
    logs.add_argument("container", nargs="?", metavar="CONTAINER", help="needed if there are several")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    logs.add_argument("--tail", type=_not_negative, metavar="N", help="only the last N lines")
    stop = _about_task(words, "stop", "agent.cli.tasks:stop", "stop a task")
    stop.add_argument(
        "--reason", default="Stopped by berth stop", metavar="TEXT", help="why; others will read it"
    )
    _takes_json(stop)
    explain = _about_task(
        words, "explain", "agent.cli.explain:explain", "what a task waits for, and until when"
    )
    _takes_json(explain)


def _word(
    words: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    does: str,
    purpose: str,
    *,
    where: bool = True,
) -> argparse.ArgumentParser:
    word = words.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
    word.set_defaults(does=does, env_file=None, json=False)
    if where and name != "agent":
        word.add_argument(
            "--env-file", metavar="FILE", help="where the agent has its settings, if not as usual"
        )
    return word


def _about_task(
    words: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, does: str, purpose: str
) -> argparse.ArgumentParser:
    word = _word(words, name, does, purpose)
    word.add_argument(
        "task", metavar="TASK", help="its ARN, its id, or the first characters of its id (4 or more)"
    )
    _takes_cluster(word)
    return word


def _takes_json(word: argparse.ArgumentParser) -> None:
    word.add_argument("--json", action="store_true", help="the whole answer as JSON")


def _takes_cluster(word: argparse.ArgumentParser) -> None:
    word.add_argument("--cluster", metavar="NAME", help="another cluster than the agent's own")


def _seconds(text: str) -> int:
    number = _positive(text)
    if number > LONGEST_CHECK:
        raise argparse.ArgumentTypeError(f"expected 1 to {LONGEST_CHECK} seconds")
    return number


def _positive(text: str) -> int:
    number = _not_negative(text)
    if number == 0:
        raise argparse.ArgumentTypeError("expected a number of at least 1")
    return number


def _not_negative(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - more is a slip of the hand
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
