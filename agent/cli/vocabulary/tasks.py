"""The words about tasks."""

from agent.cli.words import ASKING, CLUSTER, TASK, Example, Option, Word

_ROWS = """\
TASK                              DEFINITION      STATUS   HEALTH   ADDRESS     AGE
8f0c2d9e7b5a4c3f9e1d2b3a4c5d6e7f  nginx-awsvpc:1  RUNNING  UNKNOWN  10.211.0.5  2s
1b9e4f7a2c6d4e8fa0b1c2d3e4f5a6b7  nginx-awsvpc:1  RUNNING  UNKNOWN  10.211.0.6  2s"""

_RUN = Word(
    "run",
    "tasks",
    "agent.cli.run:run",
    "register a task definition and run it",
    "Registers the task definition of a file, with the names of Amazon ECS's API, and runs copies of it on "
    "this machine. What describe-task-definition prints may be given as it is. A family that is registered "
    "already is named instead of a file. An awsvpc task needs a subnet; without --subnet it is this "
    "machine's own. The backend ecs has no control plane of its own: there, use aws ecs run-task.",
    (
        Option(
            "FILE",
            "task definition as JSON; - for stdin; or FAMILY[:REVISION]",
            "FILE",
            completes="file",
        ),
        Option("--count", "how many copies (1)", "N", 1, "positive"),
        Option("--subnet", "subnet of the copies; may be given again", "ID", takes="any"),
        Option("--wait", "until all copies are RUNNING or STOPPED"),
        Option("--timeout", "limit of --wait (300)", "SECONDS", 300, "positive"),
        CLUSTER,
        *ASKING,
    ),
    (
        Example("berth run web.json --count 2 --wait", _ROWS),
        Example("berth run web:3    # once more, as revision 3 of the family"),
        Example("""jq '.cpu = "128"' web.json | berth run -"""),
    ),
    ("ps", "explain", "stop", "logs"),
    ((1, "a copy was not placed, or has failed"),),
)

_PS = Word(
    "ps",
    "tasks",
    "agent.cli.tasks:ps",
    "the tasks of a cluster",
    "Lists tasks, the newest first: those that run or are about to, and with --all those that have stopped "
    "as well. On a terminal this is a table; in a pipe it is one line for each task, cells divided by tabs, "
    "without a header, and - for what is empty. With the backend ecs these are the tasks that this machine "
    "knows.",
    (
        Option("-a --all", "also those that have stopped"),
        Option("-q --quiet", "only the ids, one in a line"),
        Option(
            "--status",
            "only tasks of this status, as in RUNNING; may be given again",
            "STATUS",
            kind="status",
            takes="any",
            choices=(
                "PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING",
                "DEPROVISIONING", "STOPPED",
            ),
        ),
        Option(
            "--family", "only tasks of this family; may be given again", "FAMILY", completes="family",
            takes="any",
        ),
        CLUSTER,
        *ASKING,
    ),
    (
        Example("berth ps", _ROWS),
        Example("berth stop $(berth ps -q --family nginx-awsvpc)"),
        Example("berth ps | cut -f 1,3", "8f0c2d9e7b5a4c3f9e1d2b3a4c5d6e7f\tRUNNING"),
    ),
    ("describe", "explain", "status"),
)  # fmt: skip

_DESCRIBE = Word(
    "describe",
    "tasks",
    "agent.cli.describe:describe",
    "one task with its containers, and what happened to it",
    "Shows a task: status and goal, network interface, each container with its exit code and reason, and a "
    "timeline of what has happened to it on this machine. With --json it is Amazon ECS's document of the "
    "task, with timeline beside.",
    (TASK, CLUSTER, *ASKING),
    (
        Example(
            "berth describe 8f0c",
            "task:        8f0c2d9e7b5a4c3f9e1d2b3a4c5d6e7f\n"
            "definition:  nginx-awsvpc:1\n"
            "status:      RUNNING\n"
            "address:     10.211.0.5\n"
            "...",
        ),
    ),
    ("explain", "logs", "ps"),
)

_LOGS = Word(
    "logs",
    "tasks",
    "agent.cli.logs:logs",
    "what a task's containers have printed, or the agent itself",
    "Copies what a container has printed to stdout, byte for byte. With --agent it is the agent's own log, "
    "from the file that its settings name and those that were put aside when it was full; on a terminal it "
    "is made readable. With --json each line is a JSON object of its own.",
    (
        TASK._replace(takes="optional"),
        Option(
            "CONTAINER", "only this one; else all of the task", "CONTAINER", completes="container",
            takes="optional",
        ),
        Option("-f --follow", "go on until the container ends, or Ctrl-C"),
        Option("--tail", "only the last N lines", "N", kind="number"),
        Option(
            "--since", "only what is younger: 90s, 15m, 2h, 3d, or 2026-01-31T12:00:00Z", "WHEN",
            kind="since",
        ),
        Option("-t --timestamps", "each line begins with its time"),
        Option("--agent", "the agent's log instead of a task's"),
        Option(
            "--level",
            "with --agent: only lines as serious as this, or more",
            "LEVEL",
            choices=("debug", "info", "warn", "error", "crit"),
        ),
        Option("--task", "with --agent: only lines about this task", "TASK", completes="task", dest="about"),
        *ASKING,
    ),
    (
        Example("berth logs 8f0c -f", '10.211.0.4 - - "GET / HTTP/1.1" 200'),
        Example("berth logs 8f0c web --since 10m --timestamps"),
        Example(
            "berth logs --agent --level warn --since 1h",
            "2026-01-31 14:03:20 warning  channel.lost  channel=control reason='closed by the server'",
        ),
    ),
    ("describe", "explain", "status"),
)  # fmt: skip

_EXPLAIN = Word(
    "explain",
    "tasks",
    "agent.cli.explain:explain",
    "what tasks wait for, until when, and what happens then",
    "Tells why a task is not where it should be: what it waits for, the cause, since when, until when, and "
    "what happens then. It is computed by the functions that decide. Without a task it tells this of every "
    "task of this machine that waits.",
    (TASK._replace(takes="optional"), CLUSTER, *ASKING),
    (
        Example(
            "berth explain a620",
            "a62028e021514a309d41f2cddc3163b9 is PENDING, its goal is RUN\n"
            "\n"
            "app is CREATED, its goal is RUN\n"
            "  waits for: dependencies_met\n"
            "  cause:     start container waits: container db has not become healthy yet\n"
            "  since:     14:03:20 (12s ago)\n"
            "  until:     14:05:20\n"
            "  then:      the task is stopped with this as its reason",
        ),
    ),
    ("describe", "logs", "status"),
)

_STOP = Word(
    "stop",
    "tasks",
    "agent.cli.stop:stop",
    "stop tasks",
    "Asks for the end of tasks. Their containers get the stop signal, and after the stop timeout of each "
    "they are killed. It returns at once; with --wait, when all have stopped. Every task that is named is "
    "tried, also after one that is not there. The backend ecs has no control plane of its own: there, use "
    "aws ecs stop-task.",
    (
        TASK._replace(takes="many"),
        Option("--reason", "why; others will read it", "TEXT", "Stopped by berth stop"),
        Option("--wait", "until all have stopped"),
        Option("--timeout", "limit of --wait (300)", "SECONDS", 300, "positive"),
        CLUSTER,
        *ASKING,
    ),
    (
        Example(
            "berth stop 8f0c 1b9e",
            "8f0c2d9e7b5a4c3f9e1d2b3a4c5d6e7f is stopping\n1b9e4f7a2c6d4e8fa0b1c2d3e4f5a6b7 is stopping",
        ),
        Example("berth stop --wait --reason 'the disk is being replaced' $(berth ps -q)"),
    ),
    ("ps", "describe"),
)  # fmt: skip

WORDS: tuple[Word, ...] = (_RUN, _PS, _DESCRIBE, _LOGS, _EXPLAIN, _STOP)
