"""``berth explain``: what everything that is not where it should be waits for, and what happens then."""

import argparse
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import OK
from agent.cli.output import moment, print_json, span
from agent.cli.tasks import find_task, short_id


def explain(chosen: argparse.Namespace) -> int:
    """Print one paragraph per wait, or that there is none."""
    connection = Connection.find(chosen.env_file)
    task = find_task(connection, chosen.task, chosen.cluster)
    document = connection.get("/berth/v1/explain", task=task["taskArn"])
    if chosen.json:
        print_json(document)
        return OK
    waits = waits_in(document)
    print(f"{short_id(task['taskArn'])} is {task.get('lastStatus')}, wanted {task.get('desiredStatus')}")
    if task.get("stoppedReason"):
        print(f"  because: {task['stoppedReason']}")
    for container in task.get("containers", []):
        if container.get("reason"):
            print(f"  {container['name']}: {container['reason']}")
    if not waits:
        print("It waits for nothing: everything is where it should be.")
    for wait in waits:
        print(f"\n{wait.get('subject')} is {wait.get('status')}, on its way to {wait.get('goal')}")
        print(f"  waits for: {wait.get('waits_for')}")
        print(f"  cause:     {wait.get('cause')}")
        print(f"  since:     {_with_span(wait.get('since'), wait.get('until'))}")
        print(f"  then:      {wait.get('then')}")
    return OK


def waits_in(document: Any) -> list[dict[str, Any]]:
    """The waits in an answer: the list itself, or the first list in the object."""
    if isinstance(document, dict):
        document = next((value for value in document.values() if isinstance(value, list)), [])
    return [wait for wait in document if isinstance(wait, dict)]


def _with_span(since: object, until: object) -> str:
    start, end = moment(since), moment(until)
    if start is None:
        return "-"
    text = f"{start.astimezone():%H:%M:%S}"
    return (
        text
        if end is None
        else f"{text}, until {end.astimezone():%H:%M:%S} ({span((end - start).total_seconds())})"
    )
