"""Why a task is not where it should be, computed by the same functions that decide."""

from dataclasses import replace
from datetime import datetime

from agent.lifecycle.gates import NotYet, resources_granted
from agent.lifecycle.plan import applying_rules, waiting_gate
from agent.lifecycle.settle import settle
from agent.lifecycle.table import OnFailure, Rule, container_rule_of, sandbox_rule_of
from agent.model.explanation import Explanation
from agent.model.state import Container, Sandbox, TaskState
from agent.model.status import ContainerStatus, Goal, SandboxStatus


def explain(task: TaskState, now: datetime, situation: str | None = None) -> tuple[Explanation, ...]:
    """One entry for each sandbox or container that waits. Empty: everything is where it should be.

    ``situation``: the task's place in the queue for resources, which its own state does not know.
    """
    task = settle(replace(task, now=max(now, task.now)))
    entities: tuple[Sandbox | Container, ...] = (task.sandbox, *task.containers)
    entries = [entry for entity in entities if (entry := _step_in_flight(entity))]
    for rule, entity in applying_rules(task):
        waiting = waiting_gate(task, rule, entity)
        name, gate = waiting or ("turn", NotYet("it is about to start", task.now))
        cause = gate.cause
        if situation is not None and name == resources_granted.__name__:
            cause = f"{cause}; {situation}"
        entries.append(
            Explanation(
                subject=_subject(entity),
                status=entity.status.name,
                goal=entity.goal.name,
                waits_for=name,
                cause=f"{_verb(rule)} waits: {cause}",
                since=entity.trouble.since if entity.trouble else entity.since or task.accepted_at,
                until=gate.until,
                then=_what_happens_then(name, rule, gate.until),
            )
        )
    return tuple(entries)


def _step_in_flight(entity: Sandbox | Container) -> Explanation | None:
    flight = entity.in_flight
    if flight is None:
        return None
    rule_of = container_rule_of if isinstance(entity, Container) else sandbox_rule_of
    stopped = "container" if isinstance(entity, Container) else "task"
    is_upwards = rule_of(flight.step.name).on_failure is OnFailure.STOP
    return Explanation(
        subject=_subject(entity),
        status=entity.status.name,
        goal=entity.goal.name,
        waits_for=flight.step.name.value,
        cause=f"{flight.step.name.value.replace('_', ' ')} is in progress",
        since=flight.since,
        until=flight.until,
        then="it counts as failed (DockerTimeoutError) and "
        + (f"the {stopped} is stopped" if is_upwards else "is tried again, slower"),
    )


def _subject(entity: Sandbox | Container) -> str:
    return entity.name if isinstance(entity, Container) else "sandbox"


def _verb(rule: Rule[SandboxStatus] | Rule[ContainerStatus]) -> str:
    return "the next move" if rule.step is None else rule.step.value.replace("_", " ")


def _what_happens_then(
    name: str, rule: Rule[SandboxStatus] | Rule[ContainerStatus], until: datetime | None
) -> str:
    if until is None:
        return "nothing: there is no deadline, the wait ends when tasks that have their share have stopped"
    if name == resources_granted.__name__:
        return "the task is stopped if its network interface has not appeared by then"
    if name in ("retry", "turn"):
        return "the step is tried again" if name == "retry" else "the step starts"
    if rule.goal is Goal.RUN and name in ("interface_present", "dependencies_met"):
        return "the task is stopped with this as its reason"
    if name in ("retention_over", "stop_reported"):
        return "it is removed all the same"
    return "the wait is judged anew"
