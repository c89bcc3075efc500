"""``berth logs``: what a container has printed, as the agent hands it on."""

import argparse
import sys

from agent.cli.connection import Connection
from agent.cli.failures import OK, USAGE, Failure
from agent.cli.tasks import find_task


def logs(chosen: argparse.Namespace) -> int:
    """Copy the output to stdout, byte for byte. Ending it with Ctrl-C is no failure."""
    connection = Connection.find(chosen.env_file)
    task = find_task(connection, chosen.task, chosen.cluster)
    names = [container["name"] for container in task.get("containers", [])]
    container = chosen.container or (names[0] if len(names) == 1 else None)
    if container is None:
        raise Failure(f"the task has several containers, name one of them: {', '.join(names)}", USAGE)
    pieces = connection.stream(
        "/berth/v1/logs",
        task=task["taskArn"],
        container=container,
        follow="true" if chosen.follow else None,
        tail=chosen.tail,
    )
    try:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        return OK
    return OK
