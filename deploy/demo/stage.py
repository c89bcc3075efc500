"""How the demonstration speaks: each command with its real output, and a stop at the first untruth."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
BIN = TREE / ".venv/bin"
PLACE = TREE / "build/demo/run"
"""Where a demonstration keeps everything that it writes, its log and its settings among it."""

ENV_FILE = PLACE / "agent.env"
_exported: dict[str, str] = {}
_BOLD, _DIM, _GREEN, _RESET = "\033[1m", "\033[2m", "\033[32m", "\033[0m"


class Untrue(Exception):
    """What the demonstration has shown is not what it promised."""


def act(title: str) -> None:
    """Announce the next part."""
    print(f"\n{_paint(_BOLD, f'=== {title}')}", flush=True)


def say(text: str) -> None:
    """A sentence between two commands."""
    print(_paint(_DIM, f"# {text}"), flush=True)


def truth(text: str, is_true: object) -> None:
    """Say what was just proved. Raise ``Untrue`` if it was not."""
    if not is_true:
        raise Untrue(text)
    print(_paint(_GREEN, f"[ok] {text}"), flush=True)


def show(*command: str, shown_as: str | None = None, fails: bool = False, lines: int = 40) -> str:
    """Run a command, print it and its output; return the output. Raise ``Untrue`` if it ends otherwise.

    ``fails``: it must end with another code than 0. ``lines``: how many lines of the output are printed.
    """
    print(f"$ {shown_as or shlex.join(_shortened(command))}", flush=True)
    code, output = _run(command)
    text = output.rstrip().splitlines()
    for line in text[:lines]:
        print(f"    {line}")
    if len(text) > lines:
        print(f"    ... {len(text) - lines} more lines")
    sys.stdout.flush()
    if (code != 0) is not fails:
        raise Untrue(f"{shlex.join(command)} ended with {code}")
    return output


def quiet(*command: str) -> str:
    """Run a command without showing it; its output. Raise ``Untrue`` if it fails."""
    code, output = _run(command)
    if code != 0:
        raise Untrue(f"{shlex.join(command)} ended with {code}: {output.strip()[-500:]}")
    return output


def parsed(*command: str) -> Any:
    """Run a command quietly and read its output as JSON."""
    return json.loads(quiet(*command))


def wait(what: str, condition: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Ask until the answer is true; that answer. Raise ``Untrue`` when the time is over."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > until:
            raise Untrue(f"{what} within {seconds:.0f} seconds")
        time.sleep(0.05)
    return answer


def export(variables: dict[str, str]) -> None:
    """Add to the environment of all commands to come, as ``eval "$(berth env)"`` does in a shell."""
    _exported.update(variables)


def environment() -> dict[str, str]:
    """The environment of the commands: this tree's programs first, and where the agent's settings are."""
    path = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}  # noqa: TID251
    return {**own, "PATH": path, "BERTH_ENV_FILE": str(ENV_FILE), "AWS_PAGER": "", **_exported}


def _run(command: tuple[str, ...]) -> tuple[int, str]:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        env=environment(),
        cwd=TREE,
    )
    return done.returncode, done.stdout


def _shortened(command: tuple[str, ...]) -> list[str]:
    return [word.replace(f"{BIN}/", "").replace(f"{TREE}/", "") for word in command]


def _paint(colour: str, text: str) -> str:
    return f"{colour}{text}{_RESET}" if sys.stdout.isatty() else text
