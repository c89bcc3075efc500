"""Tasks over the ECS API: list, describe, stop; and finding the one that a few characters of its id mean."""

import argparse
import time
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import FAILED, NOT_FOUND, OK, USAGE, Failure
from agent.cli.output import moment, print_facts, print_json, print_table, span

SHORTEST_PREFIX = 4
ID_LENGTH = 32
PER_CALL = 100
"""How many tasks DescribeTasks takes at once (ECS's limit)."""


def ps(chosen: argparse.Namespace) -> int:
    """``berth ps``."""
    connection = Connection.find(chosen.env_file)
    cluster = chosen.cluster or connection.where.cluster
    described = all_tasks(connection, cluster, with_stopped=chosen.all)
    described.sort(key=lambda task: task.get("createdAt", 0), reverse=True)
    if chosen.json:
        print_json({"tasks": described})
        return OK
    print_table(
        ("TASK", "DEFINITION", "STATUS", "HEALTH", "ADDRESS", "AGE"), [summary(task) for task in described]
    )
    return OK


def describe(chosen: argparse.Namespace) -> int:
    """``berth describe``."""
    connection = Connection.find(chosen.env_file)
    task = find_task(connection, chosen.task, chosen.cluster)
    if chosen.json:
        print_json(task)
        return OK
    interface = details(task)
    print_facts(
        (
            ("task", short_id(task["taskArn"])),
            ("arn", task["taskArn"]),
            ("definition", _definition(task)),
            ("status", task.get("lastStatus")),
            ("wanted", task.get("desiredStatus")),
            ("health", task.get("healthStatus")),
            ("created", _time(task.get("createdAt"))),
            ("started", _time(task.get("startedAt"))),
            ("stopped", _time(task.get("stoppedAt"))),
            ("stop code", task.get("stopCode")),
            ("reason", task.get("stoppedReason")),
            ("address", interface.get("privateIPv4Address")),
            ("interface", interface.get("networkInterfaceId")),
            ("mac", interface.get("macAddress")),
            ("subnet", interface.get("subnetId")),
        )
    )
    print()
    print_table(
        ("CONTAINER", "STATUS", "HEALTH", "EXIT", "IMAGE", "REASON"),
        [
            (
                container.get("name"),
                container.get("lastStatus"),
                container.get("healthStatus"),
                container.get("exitCode"),
                container.get("image"),
                container.get("reason"),
            )
            for container in task.get("containers", [])
        ],
    )
    return OK


def all_tasks(connection: Connection, cluster: str, *, with_stopped: bool) -> list[dict[str, Any]]:
    """Every task of a cluster, described."""
    arns: list[str] = []
    for status in ("RUNNING", "STOPPED") if with_stopped else ("RUNNING",):
        token = None
        while True:
            request = {"cluster": cluster, "desiredStatus": status} | ({"nextToken": token} if token else {})
            answer = connection.ecs("ListTasks", request)
            arns += answer.get("taskArns", [])
            token = answer.get("nextToken")
            if not token:
                break
    return described_tasks(connection, cluster, list(dict.fromkeys(arns)))


def described_tasks(connection: Connection, cluster: str, arns: list[str]) -> list[dict[str, Any]]:
    """These tasks, described; those that no longer exist are left out."""
    tasks: list[dict[str, Any]] = []
    for start in range(0, len(arns), PER_CALL):
        request = {"cluster": cluster, "tasks": arns[start : start + PER_CALL]}
        tasks += connection.ecs("DescribeTasks", request).get("tasks", [])
    return tasks


def find_task(connection: Connection, text: str, cluster: str | None) -> dict[str, Any]:
    """The task of that ARN, id or beginning of an id. Raise ``Failure``."""
    if text.startswith("arn:"):
        cluster = cluster or _cluster_in(text)
    cluster = cluster or connection.where.cluster
    wanted = text if text.startswith("arn:") else text.lower()
    if text.startswith("arn:") or len(text) == ID_LENGTH:
        found = described_tasks(connection, cluster, [wanted])
        if not found:
            raise Failure(f"there is no task {text} in cluster {cluster}; berth ps -a lists them", NOT_FOUND)
        return found[0]
    if len(text) < SHORTEST_PREFIX:
        raise Failure(
            f"{text!r} is too short for a task; give {SHORTEST_PREFIX} characters of its id or more", USAGE
        )
    matching = [
        task
        for task in all_tasks(connection, cluster, with_stopped=True)
        if short_id(task["taskArn"]).startswith(wanted)
    ]
    if not matching:
        raise Failure(f"no task in cluster {cluster} begins with {text}; berth ps -a lists them", NOT_FOUND)
    if len(matching) > 1:
        names = "\n".join(f"  {short_id(task['taskArn'])}  {_definition(task)}" for task in matching)
        raise Failure(f"{text} may mean several tasks; give more of the id:\n{names}", USAGE)
    return matching[0]


def summary(task: dict[str, Any]) -> tuple[object, ...]:
    """A task as a row: id, definition, status, health, address, age."""
    created = moment(task.get("createdAt"))
    age = span(time.time() - created.timestamp()) if created else None
    return (
        short_id(task["taskArn"]),
        _definition(task),
        task.get("lastStatus"),
        task.get("healthStatus"),
        details(task).get("privateIPv4Address"),
        age,
    )


def details(task: dict[str, Any]) -> dict[str, str]:
    """What the attachment of a task's network interface says: address, id, MAC, subnet."""
    for attachment in task.get("attachments", []):
        if attachment.get("type") in ("ElasticNetworkInterface", "eni"):
            return {detail["name"]: detail["value"] for detail in attachment.get("details", [])}
    return {}


def short_id(arn: str) -> str:
    """The id at the end of an ARN."""
    return arn.rsplit("/", 1)[-1]


def settle(
    connection: Connection,
    cluster: str,
    arns: list[str],
    seconds: float,
    *,
    until: tuple[str, ...] = ("RUNNING", "STOPPED"),
) -> list[dict[str, Any]]:
    """Wait until each task is in one of these statuses. Raise ``Failure`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        tasks = described_tasks(connection, cluster, arns)
        waiting = [task for task in tasks if task.get("lastStatus") not in until]
        if not waiting:
            return tasks
        if time.monotonic() >= deadline:
            first = short_id(waiting[0]["taskArn"])
            raise Failure(
                f"{len(waiting)} of {len(arns)} tasks are not {until[0]} after {span(seconds)}; "
                f"berth explain {first} says what it waits for",
                FAILED,
            )
        time.sleep(0.1)


def _definition(task: dict[str, Any]) -> str:
    return short_id(str(task.get("taskDefinitionArn", "")))


def _cluster_in(arn: str) -> str | None:
    parts = arn.rsplit(":task/", 1)[-1].split("/")
    return parts[0] if len(parts) > 1 else None


def _time(value: object) -> str:
    at = moment(value)
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
