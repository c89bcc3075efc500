"""The words about the agent and its machine."""

from agent.cli.words import ASKING, ENV_FILE, JSON, Example, Option, Word

_AGENT = Word(
    "agent",
    "agent",
    "agent.cli.node:run_agent",
    "run the agent in the foreground (as root)",
    "Becomes the agent, until it is told to stop by SIGTERM or Ctrl-C. Tasks go on without it, and the next "
    "agent finds them again. Settings come from the environment, from /etc/ecs/ecs.config and from a JSON "
    "file; berth config shows them. One agent runs on a machine.",
    (Option("--env-file", "settings as NAME=VALUE lines (/etc/ecs/ecs.config)", "FILE", completes="file"),),
    (
        Example("sudo berth agent"),
        Example("sudo berth agent --env-file /etc/ecs/second.config"),
    ),
    ("status", "config", "logs"),
)

_STATUS = Word(
    "status",
    "agent",
    "agent.cli.status:status",
    "is the agent well, and what runs here",
    "One screen about the agent: version, backend, cluster, this machine's ARN, the connections to the "
    "control plane with the age of the last message, tasks by status, what is wrong and why, the disk, and "
    "what to do next. It asks the running agent, never Docker, so it answers while Docker hangs.",
    ASKING,
    (
        Example(
            "berth status",
            "agent:     berth - v0.1.0 (backend local)\n"
            "health:    OK\n"
            "cluster:   default\n"
            "tasks:     3: 2 RUNNING, 1 PENDING\n"
            "disk:      /var/lib/berth: 41% used, 20.1 GiB free\n"
            "next:      berth explain says what 1 task waits for",
        ),
    ),
    ("healthcheck", "explain", "logs"),
    ((0, "it is well"), (1, "it runs, but something is wrong"), (4, "it is not running")),
)

_HEALTHCHECK = Word(
    "healthcheck",
    "agent",
    "agent.cli.healthcheck:healthcheck",
    "exit code 0 if the agent is well; for Docker and scripts",
    "Says by its exit code whether the agent should be started anew. It is well if it answers in time and "
    "does not say that it is stuck. That Docker is away or that the control plane cannot be reached does "
    "not make it unwell: the agent waits for them, and to start it anew would not help. berth status tells "
    "of those.",
    (
        Option("--timeout", "how long to wait for the agent, 1 to 25 (5)", "SECONDS", 5, "check"),
        JSON,
        ENV_FILE,
    ),
    (
        Example("berth healthcheck || systemctl restart berth"),
        Example(
            "berth healthcheck --timeout 1",
            "berth healthcheck: nothing listens on http://127.0.0.1:51678: the agent is not running; as "
            "root: berth agent",
        ),
    ),
    ("status",),
    ((0, "it is well"), (1, "it is not, whatever the cause")),
)

_CONFIG = Word(
    "config",
    "agent",
    "agent.cli.settings:config",
    "every setting, its value and its source",
    "Shows what the running agent uses, and where each value stands: the environment, a file, or the "
    "default. If no agent runs, or with --offline, it shows what an agent would use that was started here, "
    "and tells every mistake at once. Secrets are not shown.",
    (Option("--offline", "do not ask the agent: read the settings here"), *ASKING),
    (
        Example(
            "berth config | grep CLUSTER",
            "ECS_CLUSTER\tdefault\tdefault",
        ),
        Example(
            "ECS_LOGLEVEL=loud berth config --offline",
            "berth config: the agent cannot start with these settings:\n"
            "ECS_LOGLEVEL='loud' (the environment): expected one of debug, info, warn, error, crit, none",
        ),
    ),
    ("agent", "status"),
)

_DOCTOR = Word(
    "doctor",
    "agent",
    "agent.cli.doctor.command:doctor",
    "what is wrong with this machine, what it means, what to do",
    "Looks at everything that the agent and its tasks need: Docker, control groups, the firewall, other "
    "programs that configure interfaces, the clock, disks, servers, plugins, records. Each check has a "
    "deadline of its own and all run at once, so it ends within 10 seconds, also while Docker hangs, with "
    "an agent or without. With --fix it does what is safe, says so before, and says how it is undone.",
    (
        Option("CHECK", "only these checks; --list names them", completes="check", takes="any"),
        Option("--fix", "do what is safe for what is wrong, of the named checks or of all"),
        Option("--dry-run", "say what --fix would do, and do nothing"),
        Option("--list", "the names of the checks, and what each asks"),
        *ASKING,
    ),
    (
        Example("berth doctor docker live-restore"),
        Example("berth doctor --fix sysctls"),
        Example("berth doctor --json || echo not yet"),
    ),
    ("status", "leaks", "config"),
    (
        (0, "all is well, or there are only warnings"),
        (1, "there is a problem, or a check did not end in time"),
    ),
)

_LEAKS = Word(
    "leaks",
    "agent",
    "agent.cli.leaks.command:leaks",
    "what is left of tasks that are gone, and its removal",
    "Lists what on this machine belongs to no task: containers, volumes, cgroups, links, addresses, "
    "interfaces, namespaces, rules. It looks itself, twice within some seconds, and asks the running agent "
    "which tasks there are. Without an agent the records on disk say that, and what runs is left alone. If "
    "Docker does not answer, it says which kinds it could not look for. With --fix it removes what is left, "
    "and looks once more at each thing right before.",
    (Option("--fix", "remove it, and say what could not be removed and why"), *ASKING),
    (
        Example("berth leaks", "nothing is left of tasks that are gone"),
        Example("sudo berth leaks --fix"),
    ),
    ("status", "doctor"),
    (
        (0, "nothing is left, or all of it has been removed"),
        (1, "something is left, or it cannot be looked for"),
    ),
)

_ENV = Word(
    "env",
    "agent",
    "agent.cli.settings:env",
    "variables for the AWS CLI",
    "Prints lines for a shell that make the AWS CLI and every AWS SDK ask this agent: endpoint, region, and "
    "a key pair that is good for this agent only. They come from a file that only root may read.",
    (JSON, ENV_FILE),
    (
        Example('eval "$(berth env)"'),
        Example('eval "$(sudo berth env)"; aws ecs list-tasks'),
    ),
    ("run", "config"),
)

WORDS: tuple[Word, ...] = (_AGENT, _STATUS, _HEALTHCHECK, _CONFIG, _DOCTOR, _LEAKS, _ENV)
