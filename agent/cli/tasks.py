"""Tasks: list them, and find the one that a few characters of its id mean.

With the backend ``local`` they come from the ECS API. With ``ecs`` that API is the control plane's, and the
tasks are those that this machine knows, in the same words.
"""

import argparse
import time
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import FAILED, NOT_FOUND, OK, USAGE, Failure
from agent.cli.output import clean, moment, print_json, print_table, span
from agent.cli.seen import tasks_seen

SHORTEST_PREFIX = 4
ID_LENGTH = 32
PER_CALL = 100
"""How many tasks DescribeTasks takes at once (ECS's limit)."""

COLUMNS = ("TASK", "DEFINITION", "STATUS", "HEALTH", "ADDRESS", "AGE")
"""Of a list of tasks, in a pipe as well. New ones are added at the end."""


def ps(chosen: argparse.Namespace) -> int:
    """``berth ps``."""
    connection = Connection.find(chosen.env_file)
    cluster = chosen.cluster or connection.where.cluster
    with_stopped = chosen.all or bool(set(chosen.status) & {"STOPPED", "STOPPING", "DEPROVISIONING"})
    described = [
        task
        for task in all_tasks(connection, cluster, with_stopped=with_stopped)
        if (not chosen.status or task.get("lastStatus") in chosen.status)
        and (not chosen.family or definition(task).partition(":")[0] in chosen.family)
    ]
    described.sort(key=lambda task: task.get("createdAt", 0), reverse=True)
    if chosen.json:
        print_json({"tasks": described})
    elif chosen.quiet:
        for task in described:
            print(clean(short_id(task["taskArn"])))
    else:
        print_table(COLUMNS, [summary(task) for task in described])
    return OK


def all_tasks(connection: Connection, cluster: str, *, with_stopped: bool) -> list[dict[str, Any]]:
    """Every task of a cluster, described."""
    if connection.where.backend == "ecs":
        seen = tasks_seen(connection, cluster)
        return [task for task in seen if with_stopped or task.get("lastStatus") != "STOPPED"]
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
    is_asked_by_name = connection.where.backend != "ecs"
    if is_asked_by_name and (text.startswith("arn:") or len(text) == ID_LENGTH):
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
        if wanted == task["taskArn"] or short_id(task["taskArn"]).startswith(wanted)
    ]
    if not matching:
        where = f"in cluster {cluster}" if is_asked_by_name else "of this machine"
        raise Failure(f"no task {where} begins with {text}; berth ps -a lists them", NOT_FOUND)
    if len(matching) > 1:
        names = "\n".join(f"  {short_id(task['taskArn'])}  {definition(task)}" for task in matching)
        raise Failure(f"{text} may mean several tasks; give more of the id:\n{names}", USAGE)
    return matching[0]


def summary(task: dict[str, Any]) -> tuple[object, ...]:
    """A task as a row: id, definition, status, health, address, age."""
    created = moment(task.get("createdAt"))
    age = span(time.time() - created.timestamp()) if created else None
    return (
        short_id(task["taskArn"]),
        definition(task),
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


def definition(task: dict[str, Any]) -> str:
    """Family and revision of a task: ``web:3``."""
    return short_id(str(task.get("taskDefinitionArn", "")))


def _cluster_in(arn: str) -> str | None:
    parts = arn.rsplit(":task/", 1)[-1].split("/")
    return parts[0] if len(parts) > 1 else None
