"""``docs/lifecycle.md``: the rules of ``agent.lifecycle.table`` as tables and as pictures."""

import inspect
from collections.abc import Sequence
from dataclasses import fields

from agent.lifecycle.table import CONTAINER_RULES, SANDBOX_RULES, STOP_SLACK, Limit, Rule
from agent.model.state import Policy
from agent.model.status import ContainerStatus, SandboxStatus
from agent.settings.kinds import show_duration
from agent.settings.variables import VARIABLES
from docs.pages.table import code, table

AnyRule = Rule[SandboxStatus] | Rule[ContainerStatus]

_INTRODUCTION = """\
# The lifecycle of a task

*Generated from `agent/lifecycle/table.py`. Change that file, then run `make docs`.*

A task is one **sandbox** (pause container, network namespace, what is attached to it) and its
**containers**. Each stands on a rung of a ladder, its **status**, and has a **goal**: RUN, STOP or
REMOVE. Both only ever rise. A rule applies when the status is as given and the goal has reached at least
the given one; once the goal is to go down, the rules for going up are over. What a rule waits for are
**gates**. A gate is open, not yet open, or never: a wait that can never end becomes a reason at once.

A step that fails on the way up stops the container, and the task with it when the container is essential;
a sandbox that fails stops the task. On the way down a step is tried again, each time later, until it
succeeds: STOPPED is said only when a container was seen gone.

The status of the task is not stored. It is derived: PENDING until every essential container runs, then
RUNNING, and STOPPED when every rung is at least STOPPED.
"""


def page() -> str:
    """The whole text."""
    parts = [
        _INTRODUCTION,
        "## Sandbox\n",
        _picture(SandboxStatus, SANDBOX_RULES),
        _table(SANDBOX_RULES),
        "\n## Containers\n",
        _picture(ContainerStatus, CONTAINER_RULES),
        _table(CONTAINER_RULES),
        "\n## Gates\n",
        _gates(),
        "\n## Time limits\n",
        _limits(),
    ]
    return "\n".join(parts) + "\n"


def _table(rules: Sequence[AnyRule]) -> str:
    header = ("status", "goal", "step", "becomes", "waits for", "time limit", "if it fails")
    return table(header, [_row(rule) for rule in rules])


def _row(rule: AnyRule) -> tuple[str, ...]:
    waits = ", ".join(code(gate.__name__) for gate in rule.waits_for)
    return (
        rule.status.name,
        rule.goal.name,
        code(rule.step.value) if rule.step else "*nothing to do*",
        rule.becomes.name,
        waits or "-",
        code("" if rule.limit is Limit.NONE else rule.limit.value),
        ("stop" if rule.on_failure.value == "stop" else rule.on_failure.value) if rule.step else "-",
    )


def _picture(statuses: type[SandboxStatus] | type[ContainerStatus], rules: Sequence[AnyRule]) -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(statuses)).name}"]
    for rule in rules:
        label = rule.step.value if rule.step else "nothing to do"
        lines.append(f"    {rule.status.name} --> {rule.becomes.name}: {rule.goal.name} / {label}")
    lines += [f"    {list(statuses)[-1].name} --> [*]", "```\n"]
    return "\n".join(lines)


def _gates() -> str:
    rules: tuple[AnyRule, ...] = (*SANDBOX_RULES, *CONTAINER_RULES)
    gates = {gate.__name__: gate for rule in rules for gate in rule.waits_for}
    rows = [(code(name), (inspect.getdoc(gate) or "").split("\n\n")[0]) for name, gate in gates.items()]
    return table(("gate", "open when"), rows)


def _limits() -> str:
    variables = {variable.field: variable.name for variable in VARIABLES}
    variables |= {"dependency_limit": variables["dependency_wait_limit"]}
    policy = Policy()
    rows = [
        (code(field.name), show_duration(getattr(policy, field.name)), code(variables.get(field.name, "")))
        for field in fields(Policy)
    ]
    note = f"\nA stop has its grace period and {show_duration(STOP_SLACK)} more before it counts as failed."
    return table(("limit", "default", "set by"), rows) + "\n" + note
