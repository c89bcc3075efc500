"""The rules: read this first.

A rule applies when the status is as given and the goal has reached at least the given one; once the goal is
to go down, the rules for going up are over. ``becomes`` is what the entity is when the step has succeeded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from agent.lifecycle.gates import (
    Gate,
    containers_removed,
    containers_stopped,
    dependencies_met,
    dependents_stopped,
    interface_present,
    resources_granted,
    retention_over,
    sandbox_connected,
    sandbox_paused,
    stop_reported,
)
from agent.model.spec import ContainerSpec
from agent.model.state import Policy
from agent.model.status import ContainerStatus, Goal, SandboxStatus
from agent.model.steps import StepName

STOP_SLACK = timedelta(minutes=2)
"""What Docker is given beyond the grace period before a stop counts as failed (ecs-protocol 8.4)."""


class OnFailure(StrEnum):
    """What a failed step means."""

    STOP = "stop"
    """The container goes down, and the task with it if the container is essential. The sandbox: the task."""

    AGAIN = "again, slower"
    """Going down, a step is tried until it succeeds."""


class Limit(StrEnum):
    """Which time limit of the task's policy a step has."""

    PULL = "pull_limit"
    CREATE = "create_limit"
    START = "start_limit"
    ATTACH = "attach_limit"
    DETACH = "detach_limit"
    REMOVE = "remove_limit"
    STOP = "stop_grace"
    NONE = "none"


Status = TypeVar("Status", SandboxStatus, ContainerStatus)


@dataclass(frozen=True, slots=True)
class Rule(Generic[Status]):
    """One row. ``step`` None: nothing to perform, just move.

    ``transition`` is the word in the reason when the limit is passed (ecs-protocol 4.9). A rule that
    ``yields_to_stop`` is given up as soon as the goal is to go down; the others are let finish first, so that
    a late start cannot follow a stop.
    """

    status: Status
    goal: Goal
    step: StepName | None
    becomes: Status
    waits_for: tuple[Gate, ...] = ()
    on_failure: OnFailure = OnFailure.STOP
    limit: Limit = Limit.NONE
    transition: str = ""
    yields_to_stop: bool = False


S = SandboxStatus
C = ContainerStatus
RUN, STOP, REMOVE = Goal.RUN, Goal.STOP, Goal.REMOVE
AGAIN = OnFailure.AGAIN

# fmt: off
SANDBOX_RULES: tuple[Rule[SandboxStatus], ...] = (
    Rule(S.ABSENT, RUN, StepName.START_PAUSE, S.PAUSED, (resources_granted,),
         limit=Limit.START, transition="started"),
    Rule(S.PAUSED, RUN, StepName.ATTACH_NETWORK, S.CONNECTED, (interface_present,),
         limit=Limit.ATTACH, transition="connected"),
    # A start that failed may have started, so even ABSENT goes down through a stop.
    Rule(S.ABSENT, STOP, StepName.STOP_PAUSE, S.STOPPED, (containers_stopped,),
         AGAIN, Limit.STOP, "stopped"),
    Rule(S.PAUSED, STOP, StepName.DETACH_NETWORK, S.DISCONNECTED, (containers_stopped,),
         AGAIN, Limit.DETACH, "disconnected"),
    Rule(S.CONNECTED, STOP, StepName.DETACH_NETWORK, S.DISCONNECTED, (containers_stopped,),
         AGAIN, Limit.DETACH, "disconnected"),
    Rule(S.DISCONNECTED, STOP, StepName.STOP_PAUSE, S.STOPPED, (),
         AGAIN, Limit.STOP, "stopped"),
    Rule(S.STOPPED, REMOVE, StepName.REMOVE_PAUSE, S.REMOVED, (containers_removed,),
         AGAIN, Limit.REMOVE, "removing"),
)

CONTAINER_RULES: tuple[Rule[ContainerStatus], ...] = (
    Rule(C.PENDING, RUN, StepName.PULL_IMAGE, C.PULLED, (resources_granted,),
         limit=Limit.PULL, transition="pulled", yields_to_stop=True),
    Rule(C.PULLED, RUN, StepName.CREATE_CONTAINER, C.CREATED, (sandbox_paused,),
         limit=Limit.CREATE, transition="created"),
    Rule(C.CREATED, RUN, StepName.START_CONTAINER, C.RUNNING, (sandbox_connected, dependencies_met),
         limit=Limit.START, transition="started"),
    Rule(C.PENDING, STOP, None, C.STOPPED),
    Rule(C.PULLED, STOP, None, C.STOPPED),
    # Here too: what failed to start may run.
    Rule(C.CREATED, STOP, StepName.STOP_CONTAINER, C.STOPPED, (dependents_stopped,),
         AGAIN, Limit.STOP, "stopped"),
    Rule(C.RUNNING, STOP, StepName.STOP_CONTAINER, C.STOPPED, (dependents_stopped,),
         AGAIN, Limit.STOP, "stopped"),
    Rule(C.STOPPED, REMOVE, StepName.REMOVE_CONTAINER, C.REMOVED, (stop_reported, retention_over),
         AGAIN, Limit.REMOVE, "removing"),
)
# fmt: on


def sandbox_rule(status: SandboxStatus, goal: Goal) -> Rule[SandboxStatus] | None:
    """The rule that applies to a sandbox. None: it is where it must be."""
    return _applying(SANDBOX_RULES, status, goal)


def container_rule(status: ContainerStatus, goal: Goal) -> Rule[ContainerStatus] | None:
    """The rule that applies to a container. None: it is where it must be."""
    return _applying(CONTAINER_RULES, status, goal)


def sandbox_rule_of(step: StepName) -> Rule[SandboxStatus]:
    """The rule that a sandbox's step comes from, wherever the sandbox is by now. Raise ``KeyError``."""
    return _SANDBOX_RULES_BY_STEP[step]


def container_rule_of(step: StepName) -> Rule[ContainerStatus]:
    """The rule that a container's step comes from, wherever the container is by now. Raise ``KeyError``."""
    return _CONTAINER_RULES_BY_STEP[step]


def transition_of(step: StepName) -> str:
    """The word for a step in the reason of its time-out. Raise ``KeyError`` for a step of no rule."""
    return (_SANDBOX_RULES_BY_STEP.get(step) or _CONTAINER_RULES_BY_STEP[step]).transition


def limit_of(
    rule: Rule[SandboxStatus] | Rule[ContainerStatus], policy: Policy, spec: ContainerSpec | None
) -> timedelta:
    """How long the rule's step may take for this container (None: for the sandbox)."""
    if rule.limit is Limit.NONE:
        return timedelta(0)
    if rule.limit is Limit.STOP:
        return stop_grace(policy, spec) + STOP_SLACK
    return _LIMITS[rule.limit](policy)


def stop_grace(policy: Policy, spec: ContainerSpec | None) -> timedelta:
    """How long a process may take to end after SIGTERM. The pause container ends at once."""
    if spec is None:
        return timedelta(seconds=5)
    return policy.stop_grace if spec.stop_timeout is None else timedelta(seconds=spec.stop_timeout)


# Rules with the same step differ only in the status that they start from, and in what they wait for.
_SANDBOX_RULES_BY_STEP = {rule.step: rule for rule in SANDBOX_RULES if rule.step is not None}
_CONTAINER_RULES_BY_STEP = {rule.step: rule for rule in CONTAINER_RULES if rule.step is not None}

_LIMITS: dict[Limit, Callable[[Policy], timedelta]] = {
    Limit.PULL: lambda policy: policy.pull_limit,
    Limit.CREATE: lambda policy: policy.create_limit,
    Limit.START: lambda policy: policy.start_limit,
    Limit.ATTACH: lambda policy: policy.attach_limit,
    Limit.DETACH: lambda policy: policy.detach_limit,
    Limit.REMOVE: lambda policy: policy.remove_limit,
}


def _applying(rules: tuple[Rule[Status], ...], status: Status, goal: Goal) -> Rule[Status] | None:
    for rule in rules:
        if rule.status is status and rule.goal <= goal and not (goal > Goal.RUN and rule.goal is Goal.RUN):
            return rule
    return None
