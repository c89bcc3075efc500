"""What a word of the ``berth`` command is: what it does, its options, its help, its examples.

The parser, the help, the completion, the manual page and docs/cli.md are made of it. A new word is one
``Word`` in a module of ``vocabulary``.
"""

from typing import Any, NamedTuple

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "done; and for a question: all is well"),
    (1, "it failed; or the answer is that something is wrong"),
    (2, "wrong use: a word, an option or a setting"),
    (3, "there is no such task, container or cluster"),
    (4, "the agent is not running"),
    (5, "the agent cannot start, and starting it again will not help"),
)
"""Every exit code and what it says. ``failures`` has their names."""

GROUPS: tuple[tuple[str, str], ...] = (
    ("tasks", "Tasks"),
    ("agent", "The agent and its machine"),
    ("command", "This command"),
)
"""The groups of the overview, in its order: key and title."""


class Option(NamedTuple):
    """An option, or what a word is given without one.

    ``flags``: as typed, like ``-f --follow``; in capitals for what is given without an option. ``metavar``:
    what stands for its value; empty for a switch. ``kind``: how the value is read (``parsing.KINDS``).
    ``completes``: what the shell offers: ``file``, ``task``, ``container``, ``cluster``, ``family``,
    ``check`` or ``word``.
    ``takes``: ``one``, ``optional`` (one or none), ``many`` (one or more), ``any`` (none or more).
    ``dest``: the name of what was parsed, if it is not that of the option.
    """

    flags: str
    text: str
    metavar: str = ""
    default: Any = None
    kind: str = "text"
    choices: tuple[str, ...] = ()
    completes: str = ""
    takes: str = "one"
    dest: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Each spelling of it."""
        return tuple(self.flags.split())

    @property
    def is_positional(self) -> bool:
        """Whether it is given without an option."""
        return not self.flags.startswith("-")

    @property
    def shown(self) -> str:
        """How it stands in help: ``-f, --follow``, ``--tail N``, ``TASK``."""
        text = ", ".join(self.names)
        return f"{text} {self.metavar}" if self.metavar and not self.is_positional else text

    @property
    def in_usage(self) -> str:
        """How it stands in a usage line."""
        if not self.is_positional:
            longest = self.names[-1]
            return f"[{longest} {self.metavar}]" if self.metavar else f"[{longest}]"
        forms = {"one": "{}", "optional": "[{}]", "many": "{} [{} ...]", "any": "[{} ...]"}
        return forms[self.takes].replace("{}", self.flags)


class Example(NamedTuple):
    """What somebody types, and what it looks like. ``output`` may be empty."""

    command: str
    output: str = ""


class Word(NamedTuple):
    """A word of the command.

    ``does``: ``module:function``, which takes what was parsed and returns the exit code. ``summary``: one
    line, lower case, no full stop. ``text``: a paragraph. ``codes``: what an exit code means for this word,
    where it is not plain from ``EXIT_CODES``.
    """

    name: str
    group: str
    does: str
    summary: str
    text: str
    options: tuple[Option, ...] = ()
    examples: tuple[Example, ...] = ()
    related: tuple[str, ...] = ()
    codes: tuple[tuple[int, str], ...] = ()

    @property
    def usage(self) -> str:
        """The usage line without its wrapping: options first, then what is given without one."""
        own = [option for option in self.options if option not in GENERAL]
        options = [option.in_usage for option in own if not option.is_positional]
        given = [option.in_usage for option in own if option.is_positional]
        return " ".join(["berth", self.name, *options, *given])

    @property
    def takes_json(self) -> bool:
        """Whether it has ``--json``."""
        return JSON in self.options


ENV_FILE = Option(
    "--env-file",
    "where the agent has its settings, if not as usual (/etc/ecs/ecs.config)",
    "FILE",
    completes="file",
)
JSON = Option("--json", "the whole answer as JSON; an error is a JSON object on stderr")
COLOR = Option(
    "--color",
    "auto: colour on a terminal, unless NO_COLOR is set; always: as on a terminal; never",
    "WHEN",
    "auto",
    choices=("auto", "always", "never"),
)
CLUSTER = Option("--cluster", "another cluster than the agent's own", "NAME", completes="cluster")
TASK = Option(
    "TASK", "its ARN, its id, or the first characters of its id (4 or more)", "TASK", completes="task"
)
GENERAL: tuple[Option, ...] = (JSON, COLOR, ENV_FILE)
"""Options that most words have, and that usage lines leave out."""
ASKING: tuple[Option, ...] = (JSON, COLOR, ENV_FILE)
"""What every word has that asks the agent and prints an answer."""

OUTPUT = (
    "On a terminal, lists are tables with a header and colour, and long cells are cut so that a line "
    "fits. In a pipe there is one line for each row, cells divided by tabs, no header, no colour, - for "
    "an empty cell, and nothing is cut; new columns come last, so that cut and awk stay right. With "
    "--json every answer is a JSON document on stdout with the names of Amazon ECS's API, and every "
    'failure a line on stderr: {"error": {"command": ..., "message": ..., "exit_code": ...}}. A task is '
    "named by its ARN, its id, or the first characters of its id. Everything is asked on loopback, so "
    "it works as well when the agent runs in a container: docker exec ecs-agent berth ps does the same."
)
"""What holds for every word."""

FILES: tuple[tuple[str, str], ...] = (
    ("/etc/ecs/ecs.config", "Settings as NAME=VALUE lines; BERTH_ENV_FILE or --env-file names another file."),
    ("/etc/ecs/ecs.config.json", "Settings as JSON; ECS_AGENT_CONFIG_FILE_PATH names another file."),
    ("credentials.json", "In ECS_DATADIR: the key pair of the agent's own API. Only root may read it."),
)
"""The files that the command reads."""
