"""``berth explain``: what everything that is not where it should be waits for, and what happens then."""

import argparse
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import NOT_FOUND, OK, Failure
from agent.cli.output import clean, coloured, moment, print_json, span
from agent.cli.tasks import find_task, short_id


def explain(chosen: argparse.Namespace) -> int:
    """Print one paragraph per wait, or that there is none; without a task, of every task that waits."""
    connection = Connection.find(chosen.env_file)
    if chosen.task is None:
        return _explain_all(connection, chosen)
    try:
        document = connection.get("/berth/v1/explain", task=chosen.task)
    except Failure as failure:
        if failure.code != NOT_FOUND or connection.where.backend == "ecs":
            raise
        # removed from this machine, or not yet seen by it: the API may remember it
        document = _remembered(find_task(connection, chosen.task, chosen.cluster))
    if chosen.json:
        print_json(document)
    else:
        _print(document)
    return OK


def _explain_all(connection: Connection, chosen: argparse.Namespace) -> int:
    document = connection.get("/berth/v1/explain")
    if chosen.json:
        print_json(document)
        return OK
    waiting = document.get("tasks") or []
    if not waiting:
        print("No task waits for anything.")
    for index, each in enumerate(waiting):
        if index:
            print()
        _print(each)
    return OK


def _print(document: dict[str, Any]) -> None:
    status = coloured(document["status"])
    print(f"{short_id(document['task'])} is {status}, its goal is {document['goal']}")
    if document.get("reason"):
        print(f"  reason: {clean(document['reason'])}")
    for note in document.get("notes", ()):
        print(f"  {clean(note)}")
    waits = document.get("waits") or []
    if not waits:
        print("It waits for nothing.")
    for wait in waits:
        print(f"\n{wait['subject']} is {wait['status']}, its goal is {wait['goal']}")
        print(f"  waits for: {wait['waits_for']}")
        print(f"  cause:     {clean(wait['cause'])}")
        print(f"  since:     {_since(wait)}")
        print(f"  until:     {_until(wait)}")
        print(f"  then:      {clean(wait['then'])}")


def _remembered(task: dict[str, Any]) -> dict[str, Any]:
    is_over = task.get("lastStatus") == "STOPPED"
    ended = task.get("containers", []) if is_over else []
    notes = [
        f"{each['name']}: exit code {each.get('exitCode', 'unknown')} {each.get('reason', '')}".rstrip()
        for each in ended
    ]
    notes.append(
        "It is over and its containers have been removed from this machine."
        if is_over
        else "The agent of this machine has not seen it yet."
    )
    return {
        "task": task["taskArn"],
        "status": task.get("lastStatus"),
        "goal": task.get("desiredStatus"),
        "reason": task.get("stoppedReason"),
        "waits": [],
        "notes": notes,
    }


def _since(wait: dict[str, Any]) -> str:
    since = moment(wait.get("since"))
    age = wait.get("age")
    text = f"{since.astimezone():%H:%M:%S}" if since else "-"
    return f"{text} ({span(age)} ago)" if age is not None else text


def _until(wait: dict[str, Any]) -> str:
    since, until = moment(wait.get("since")), moment(wait.get("until"))
    if since is None or until is None:
        return "-"
    day = f"{until.astimezone():%Y-%m-%d} " if (until - since).days else ""
    return f"{day}{until.astimezone():%H:%M:%S}"
