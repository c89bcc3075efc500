"""``docs/reasons.md``: every stable word that a reason can begin with, and what to do about it."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from agent.model import errors
from docs.pages.problems import Undocumented
from docs.pages.source import nodes
from docs.pages.table import code, table

AGENT = Path(inspect.getfile(errors)).resolve().parents[1]

_INTRODUCTION = """\
# Reasons

*Generated from `agent/model/errors.py`, the reasons in `agent/` and `docs/pages/reasons.py`.*

A task's `stoppedReason` and a container's `reason` read `Name: detail`. The name is stable: match on it.
The detail is written for people and may change. The **first** thing that went wrong is kept; what fails
later on the way down never hides it. A task that was stopped on request has the text of the request as
its reason, without a name.

The names are those of the ECS agent where it has one.
"""

_WITHOUT_CLASS = {
    "OutOfMemoryError": "The container went over its memory limit and the kernel killed it.",
    "DockerStateError": "Docker reports an error about the container, or does not answer for too long.",
}
"""Reasons that are observed, not raised."""

_WHAT_TO_DO = {
    "CannotPullContainerError": "Check the image's name and that the registry can be reached. With "
    "`ECS_IMAGE_PULL_BEHAVIOR=prefer-cached` an image that is present is used without asking.",
    "CannotPullECRContainerError": "Check that the execution role (without one: this machine's own "
    "identity) may call `ecr:GetAuthorizationToken`, and that ECR can be reached from here.",
    "CannotPullContainerAuthError": "Check the secret of `repositoryCredentials` (JSON with `username` and "
    "`password`), and that the execution role may call `secretsmanager:GetSecretValue` for it.",
    "CannotCreateContainerError": "The detail is Docker's own text: often a bad mount, user or capability.",
    "CannotStartContainerError": "Often a command that does not exist in the image; or a condition of "
    "`dependsOn` that can no longer be met. The detail says which.",
    "CannotStopContainerError": "Docker does not confirm the end. The task stays STOPPING and the stop is "
    "tried again; look at Docker.",
    "CannotRemoveContainerError": "Tried again, slower. Look at Docker if it persists.",
    "ContainerNetworkingError": "The detail names the plugin and what it said, or the interface that did not "
    "appear. Try `berth status` and `make plugins`.",
    "CgroupError": "Check that control groups are mounted at `ECS_CGROUP_PATH` and may be written, or set "
    "`ECS_ENABLE_TASK_CPU_MEM_LIMIT=false`.",
    "CannotCreateVolumeError": "Check the volume's path and the space on its disk.",
    "CannotGetCredentialsError": "Check that the role exists and may be assumed. With "
    "`BERTH_CREDENTIALS_SOURCE=development` no role needs to exist.",
    "ResourceInitializationError": "Lower `cpu` or `memory` of the task, or place it on a larger machine. "
    "`ECS_RESERVED_MEMORY` is not there for tasks.",
    "ContainerVanishedError": "Somebody removed the container behind the agent's back; it is not made again.",
    "DockerTimeoutError": "Docker took longer than the limit of the step. `docs/lifecycle.md` says which "
    "setting holds it.",
    "InternalError": "A bug of berth: please report it, with the trace in the log (`step.crashed`).",
    "OutOfMemoryError": "Raise `memory` of the container or of the task.",
    "DockerStateError": "The detail is Docker's own text.",
}

_PLACEMENT = """
## When a task is not placed at all

With the backend `local`, `RunTask` answers `failures` in ECS's words, and no task is made:

| reason | meaning |
| --- | --- |
| `RESOURCE:MEMORY` | the task wants more memory than is free on this machine, less `ECS_RESERVED_MEMORY` |
| `RESOURCE:CPU` | the task wants more CPU units than are free |
| `RESOURCE:ENI` | `BERTH_MAX_INTERFACES` tasks have an interface already, or no address of the subnets is \
free; one that was released rests for 30 seconds |
| `ATTRIBUTE` | the definition needs a capability that this machine does not have |
| `AGENT` | the agent is not connected to the control plane |
| `MISSING` | `StartTask` names a container instance that is not this machine |
| `INACTIVE` | `StartTask` names this machine while it is draining |

While the machine is draining, `RunTask` is refused as Amazon ECS does: "No Container Instances were found in
your cluster."
"""

_NOT_BEGUN = """\
## When Amazon ECS sends a task that cannot be begun

With the backend `ecs` such a task is reported STOPPED at once, with one of these and the field, or the two
things that contradict each other. The agent logs it as `task.refused`, and nothing of the task is made.

"""

_NOT_BEGUN_NAMES = (
    (
        "UnrecogniedTaskError",
        (
            "The task asks for something that this agent does not do, or one of its fields cannot be read. "
            "(The spelling is that of the wire.)"
        ),
        (
            "The detail names what is asked for. Leave it out, or place such tasks elsewhere; "
            "[differences](ecs.md#differences-from-the-ecs-agent) lists what is refused."
        ),
    ),
    (
        "HostConfigError",
        "A container mounts a volume that the task does not have.",
        "Correct `mountPoints` or `volumes`.",
    ),
    (
        "TaskDependencyError",
        "The `dependsOn` of some containers lead in a circle, or to a container that the task does not have.",
        "Correct `dependsOn`.",
    ),
    (
        "ResourceInitializationError",
        "A container's `memory` is more than the whole task's.",
        "Correct either of them.",
    ),
    (
        "DockerClientConfigError",
        "A container is said to have a health check of Docker's, and none came with it.",
        "Register the task definition anew.",
    ),
)


def page() -> str:
    """The whole text. Raise ``Undocumented`` if a name in the code has no note."""
    meanings = {kind.name: inspect.cleandoc(kind.__doc__ or "") for kind in raised()} | _WITHOUT_CLASS
    missing = sorted(({*meanings, *literal_names()} - set(_WHAT_TO_DO)) | (literal_names() - set(meanings)))
    if missing:
        raise Undocumented(
            f"{', '.join(missing)}: write what it means and what to do in docs/pages/reasons.py"
        )
    rows = [(code(name), meanings[name], _WHAT_TO_DO[name]) for name in sorted(meanings)]
    header = ("name", "meaning", "what to do")
    not_begun = table(header, [(code(name), *rest) for name, *rest in _NOT_BEGUN_NAMES])
    return "\n".join((_INTRODUCTION, table(header, rows), _PLACEMENT, f"{_NOT_BEGUN}{not_begun}\n"))


def raised() -> tuple[type[errors.StepError], ...]:
    """Every class of error that a step may raise."""
    members = inspect.getmembers(errors, inspect.isclass)
    return tuple(
        kind for _, kind in members if issubclass(kind, errors.StepError) and kind is not errors.StepError
    )


def literal_names() -> set[str]:
    """The names in every ``Reason("Name", …)`` of the agent."""
    return {name for path in sorted(AGENT.rglob("*.py")) for name in _reasons_in(path) if name}


def _reasons_in(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "Reason"
            and node.args
        ):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
