"""``berth describe``: one task, with its containers and what has happened to it."""

import argparse
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import OK, Failure
from agent.cli.output import clean, is_for_people, moment, print_facts, print_json, print_table, span
from agent.cli.seen import full_tasks, timeline
from agent.cli.tasks import definition, details, find_task, short_id


def describe(chosen: argparse.Namespace) -> int:
    """Print everything that is known of a task."""
    connection = Connection.find(chosen.env_file)
    task = find_task(connection, chosen.task, chosen.cluster)
    events = timeline(task, _seen(connection, task["taskArn"]))
    if chosen.json:
        print_json(task | {"timeline": events})
        return OK
    interface = details(task)
    print_facts(
        (
            ("task", short_id(task["taskArn"])),
            ("arn", task["taskArn"]),
            ("definition", definition(task)),
            ("group", task.get("group")),
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
    _print_timeline(events)
    waits = task.get("lastStatus") not in ("RUNNING", "STOPPED") and is_for_people()
    if waits:
        print(f"\nberth explain {short_id(task['taskArn'])[:12]} says what it waits for.")
    return OK


def _seen(connection: Connection, arn: str) -> dict[str, Any] | None:
    """What the agent tells of it; None: it no longer knows the task, or does not answer that question."""
    try:
        return next((each for each in full_tasks(connection) if each["arn"] == arn), None)
    except Failure as failure:
        if connection.where.backend == "ecs" or failure.status is None:
            raise
        return None


def _print_timeline(events: list[dict[str, Any]]) -> None:
    if not events:
        return
    print()
    first = events[0]["at"]
    rows = []
    for event in events:
        later = event["at"] - first
        rows.append((_time(event["at"]), f"+{later:.1f}s" if later < 60 else f"+{span(later)}",  # noqa: PLR2004
                     f"{event['subject']} {event['event']}"))  # fmt: skip
    print_table(("TIME", "AFTER", "WHAT HAPPENED"), rows)


def _time(value: object) -> str:
    at = moment(value)
    return "" if at is None else clean(at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z"))
