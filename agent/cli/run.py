"""``berth run``: one file, one command, and the tasks run."""

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import FAILED, OK, USAGE, Failure
from agent.cli.output import print_json, print_table
from agent.cli.tasks import COLUMNS, described_tasks, settle, short_id, summary

PER_CALL = 10
"""How many copies RunTask starts at once (ECS's limit)."""


def run(chosen: argparse.Namespace) -> int:
    """Register, run, and with ``--wait`` wait. Exit code 1 if a copy was not placed or has failed."""
    connection = Connection.find(chosen.env_file)
    connection.needs_own_api("aws ecs run-task --task-definition FAMILY")
    cluster = chosen.cluster or connection.where.cluster
    definition = _definition(connection, chosen.file)
    request: dict[str, Any] = {"cluster": cluster, "taskDefinition": definition["taskDefinitionArn"]}
    if definition.get("networkMode") == "awsvpc":
        subnets = chosen.subnet or [_default_subnet(connection, cluster)]
        request["networkConfiguration"] = {"awsvpcConfiguration": {"subnets": subnets}}
    tasks: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for start in range(0, chosen.count, PER_CALL):
        answer = connection.ecs("RunTask", request | {"count": min(PER_CALL, chosen.count - start)})
        tasks += answer.get("tasks", [])
        failures += answer.get("failures", [])
    arns = [task["taskArn"] for task in tasks]
    if chosen.wait and arns:
        tasks = settle(connection, cluster, arns, chosen.timeout)
    elif arns:
        tasks = described_tasks(connection, cluster, arns)
    if chosen.json:
        print_json({"taskDefinition": definition, "tasks": tasks, "failures": failures})
    else:
        print_table(COLUMNS, [summary(task) for task in tasks])
        _tell_failures(failures, tasks)
    return FAILED if failures or any(_has_failed(task) for task in tasks) else OK


def _definition(connection: Connection, named: str) -> dict[str, Any]:
    if named != "-" and not Path(named).exists() and re.fullmatch(r"[A-Za-z0-9_-]+(:[0-9]+)?", named):
        answer = connection.ecs("DescribeTaskDefinition", {"taskDefinition": named})
    else:
        answer = connection.ecs("RegisterTaskDefinition", _read(named))
    definition: dict[str, Any] = answer["taskDefinition"]
    return definition


def _read(named: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if named == "-" else Path(named).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failure(f"{named}: expected a text file in UTF-8: {error.reason}", USAGE) from error
    except OSError as error:
        raise Failure(f"{named}: {error.strerror}", USAGE) from error
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Failure(f"{named}: expected a task definition as JSON: {error}", USAGE) from error
    if not isinstance(document, dict):
        raise Failure(f"{named}: expected a task definition as a JSON object", USAGE)
    # what describe-task-definition prints may be run as it is
    inner = document.get("taskDefinition", document)
    if not isinstance(inner, dict):
        raise Failure(f"{named}: taskDefinition: expected a JSON object", USAGE)
    return {name: value for name, value in inner.items() if name not in _ONLY_IN_ANSWERS}


def _default_subnet(connection: Connection, cluster: str) -> str:
    arns = connection.ecs("ListContainerInstances", {"cluster": cluster}).get("containerInstanceArns", [])
    if arns:
        request = {"cluster": cluster, "containerInstances": arns[:1]}
        for instance in connection.ecs("DescribeContainerInstances", request).get("containerInstances", []):
            for attribute in instance.get("attributes", []):
                if attribute.get("name") == "ecs.subnet-id":
                    return str(attribute["value"])
    raise Failure(f"cluster {cluster} has no machine that names a subnet; give one with --subnet")


def _tell_failures(failures: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> None:
    # Two hundred copies fail for one reason, which is said once.
    told = Counter((str(failure.get("reason")), failure.get("detail")) for failure in failures)
    for (reason, detail), count in told.items():
        copies = "a copy was" if count == 1 else f"{count} copies were"
        meaning = detail or _MEANINGS.get(reason)
        print(
            f"berth run: {copies} not placed: {reason}" + (f" ({meaning})" if meaning else ""),
            file=sys.stderr,
        )
    for task in tasks:
        if _has_failed(task):
            reason = task.get("stoppedReason") or "no reason is known"
            print(f"berth run: {short_id(task['taskArn'])} has stopped: {reason}", file=sys.stderr)


def _has_failed(task: dict[str, Any]) -> bool:
    if task.get("lastStatus") != "STOPPED":
        return False
    codes = [container.get("exitCode") for container in task.get("containers", [])]
    return task.get("stopCode") == "TaskFailedToStart" or any(code != 0 for code in codes)


_MEANINGS = {
    "AGENT": "the agent is not connected to its control plane",
    "ATTRIBUTE": "this machine lacks a capability that the definition asks for",
    "RESOURCE:CPU": "the tasks of this machine have taken its CPU units; stop some, or ask for less cpu",
    "RESOURCE:ENI": "no network interface or address is left; stop some tasks and wait half a minute",
    "RESOURCE:MEMORY": "the tasks of this machine have taken its memory; stop some, or ask for less memory",
}
"""Amazon ECS's reasons for not placing a task, in plain words."""

_ONLY_IN_ANSWERS = frozenset(
    {
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "deregisteredAt",
        "registeredBy",
    }
)
