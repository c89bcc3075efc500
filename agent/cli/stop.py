"""``berth stop``: the end of one task or of many."""

import argparse
import sys
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import OK, Failure
from agent.cli.output import note, print_json
from agent.cli.tasks import find_task, settle, short_id


def stop(chosen: argparse.Namespace) -> int:
    """Stop each task that is named. One that cannot be found does not keep the others from being stopped."""
    connection = Connection.find(chosen.env_file)
    connection.needs_own_api("aws ecs stop-task --task TASK")
    stopping: dict[str, dict[str, Any]] = {}
    failures: list[Failure] = []
    for named in dict.fromkeys(chosen.task):
        try:
            task = find_task(connection, named, chosen.cluster)
            request = {"cluster": task["clusterArn"], "task": task["taskArn"], "reason": chosen.reason}
            stopping[task["taskArn"]] = connection.ecs("StopTask", request).get("task", task)
        except Failure as failure:
            failures.append(failure)
            if len(chosen.task) == 1 or failure.code not in _OF_ONE_TASK:
                raise
        else:
            if not chosen.json and not chosen.wait:
                print(f"{short_id(task['taskArn'])} is stopping")
                sys.stdout.flush()
    if chosen.wait and stopping:
        _wait(chosen, connection, stopping)
    if chosen.json:
        print_json(
            {
                "tasks": list(stopping.values()),
                "failures": [{"message": str(each), "exit_code": each.code} for each in failures],
            }
        )
        return failures[0].code if failures else OK
    for each in failures:
        note(chosen, str(each))
    return failures[0].code if failures else OK


def _wait(chosen: argparse.Namespace, connection: Connection, stopping: dict[str, dict[str, Any]]) -> None:
    cluster = chosen.cluster or connection.where.cluster
    for task in settle(connection, cluster, list(stopping), chosen.timeout, until=("STOPPED",)):
        stopping[task["taskArn"]] = task
        if not chosen.json:
            print(f"{short_id(task['taskArn'])} has stopped")


_OF_ONE_TASK = (1, 2, 3)
"""Exit codes that are about one task; without an agent there is no use in trying the next."""
