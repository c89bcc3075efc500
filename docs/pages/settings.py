"""``docs/settings.md``: every variable, from the tables in ``agent.settings``."""

from agent.settings.files import ENV_FILE, JSON_FILES
from agent.settings.ineffective import INEFFECTIVE, ONLY_IN_JSON
from agent.settings.libraries import FOR_LIBRARIES
from agent.settings.load import ENV_FILE_VARIABLE, JSON_FILE_VARIABLE
from agent.settings.variables import VARIABLES, Beyond, Computed, Variable
from docs.pages.table import code, table

_INTRODUCTION = f"""\
# Settings

*Generated from `agent/settings/`. Change that package, then run `make docs`.*

The names and meanings are those of the ECS agent where there is one; `BERTH_…` is ours. A value comes
from the first of these that has one:

1. the environment,
2. the env file: `berth agent --env-file FILE`, else `{ENV_FILE_VARIABLE}`, else `{ENV_FILE}` if it
   exists,
3. the JSON file: `{JSON_FILE_VARIABLE}`, else the first that exists of `{JSON_FILES[0]}` and
   `{JSON_FILES[1]}` (one object; its keys are the variables' own names or the ECS agent's
   field names below, in capital or small letters; `null` counts as not set),
4. the user data of the EC2 instance, if the backend is `ecs`: the same object as the value of
   `ECSAgentConfiguration` in a JSON document. The backend itself is chosen before user data is asked for,
5. the default.

`berth config` prints each value with its source. An empty value counts as not set.

The agent starts only when every value can be understood, and says all mistakes at once. (The ECS agent
falls back to the default and says so in its log.) Values outside their limits are refused, or replaced
with a warning where the ECS agent does that. Names that begin with `ECS_` or `BERTH_` and are not known
get a warning with a suggestion.

Durations are written as in Go: `30s`, `10m`, `1h30m`, `100ms`. Booleans: `true`, `false`, `1`, `0`, `t`,
`f`.

## The env file

One file serves `berth agent --env-file`, `docker run --env-file` and systemd's `EnvironmentFile=` alike if it
keeps to what all three read the same way: `NAME=VALUE` lines without spaces around the `=`, without quotes
and without backslashes, empty lines, and comment lines that begin with `#`. Beyond that they differ:

"""

_VARIABLES = "\n## Variables\n"

_SYNTAX = (
    (
        "`NAME=\"a b\"` or `NAME='a b'`",
        "quotes are taken away",
        "quotes are taken away",
        "quotes stay; the agent takes them away with a warning, and refuses them in what libraries read",
    ),
    ("`NAME = a`", "as `NAME=a`", "as `NAME=a`", "refused"),
    ("`; text`", "a comment", "a comment", "refused"),
    (
        "`NAME`",
        "refused, unless the environment has a value",
        "ignored",
        "the value in the environment of `docker run`",
    ),
    ("`export NAME=a`", "refused", "ignored", "refused"),
    (
        "a backslash at the end of a line",
        "the next line belongs to it",
        "the next line belongs to it",
        "stays",
    ),
    ("a backslash elsewhere, without quotes", "stays", "is taken away", "stays"),
    ("the same name twice", "the last one, with a warning", "the last one", "the last one"),
    (
        "lines that end in CR LF, a byte order mark",
        "not part of a value",
        "write none",
        "not part of a value",
    ),
)

_WITHOUT_EFFECT = """\
This version knows these variables of the ECS agent and does not act upon them. Setting one to anything but
the value that holds anyway logs a warning.
"""

_FOR_LIBRARIES = """\
They act from the environment, and from the env file and the JSON file, which are handed on. A key pair of the
environment goes before a whole key pair in a file. If there is a proxy and `NO_PROXY` is empty, what no proxy
can reach is asked directly: 169.254.169.254, 169.254.170.2, the Docker daemon and another instance metadata
service, if one is set.
"""


def page() -> str:
    """The whole text."""
    rows = [
        (_names(variable), variable.kind.name, _default(variable), _meaning(variable))
        for variable in VARIABLES
    ]
    keys = [
        (code(key), code(known.name))
        for each in (VARIABLES, INEFFECTIVE)
        for known in each
        for key in known.json_keys
    ]
    parts = [
        _INTRODUCTION,
        table(("line", "berth", "systemd", "docker run"), _SYNTAX),
        _VARIABLES,
        table(("variable", "type", "default", "meaning"), rows),
        "\n## Known, without effect\n",
        _WITHOUT_EFFECT,
        table(
            ("variable", "why", "holds anyway"),
            [(code(known.name), known.reason, code(known.holds or "")) for known in INEFFECTIVE],
        ),
        "\n## Read by libraries\n",
        _FOR_LIBRARIES,
        table(("variable", "what reads it"), [(code(known.name), known.reader) for known in FOR_LIBRARIES]),
        "\n## Names in the JSON file\n",
        table(("key", "variable"), keys),
        "\n## Only in the JSON file, without effect\n",
        table(("key", "why"), [(code(key), reason) for key, reason in ONLY_IN_JSON.items()]),
    ]
    return "\n".join(parts) + "\n"


def _names(variable: Variable) -> str:
    return " or ".join(code(name) for name in (variable.name, *variable.aliases))


def _default(variable: Variable) -> str:
    if variable.default is None:
        return "-"
    return variable.default.explanation if isinstance(variable.default, Computed) else code(variable.default)


def _meaning(variable: Variable) -> str:
    sentences = [variable.meaning]
    if variable.backend is not None:
        sentences.append(f"For the backend `{variable.backend}`.")
    show = variable.kind.show
    limits = []
    if variable.low is not None:
        limits.append(f"at least {show(variable.low)}")
    if variable.high is not None:
        limits.append(f"at most {show(variable.high)}")
    if limits:
        otherwise = "" if variable.beyond is Beyond.REFUSED else f", otherwise {variable.beyond.value}"
        sentences.append(f"{' and '.join(limits).capitalize()}{otherwise}.")
    else:
        sentences.append(f"Expected: {variable.kind.expected}." if variable.kind.name == "word" else "")
    return " ".join(sentence for sentence in sentences if sentence)
