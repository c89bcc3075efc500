"""``berth logs``: what a container has printed, as the agent hands it on."""

import argparse
import sys

from agent.cli.connection import Connection
from agent.cli.failures import OK


def logs(chosen: argparse.Namespace) -> int:
    """Copy the output to stdout, byte for byte. Ending it with Ctrl-C is no failure."""
    pieces = Connection.find(chosen.env_file).stream(
        "/berth/v1/logs",
        task=chosen.task,
        container=chosen.container,
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
