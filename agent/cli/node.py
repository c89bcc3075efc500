"""The agent itself: run it, and ask how it is."""

import argparse
import importlib
from pathlib import Path

from agent import __version__
from agent.cli.failures import OK
from agent.cli.output import print_json


def run_agent(chosen: argparse.Namespace) -> int:
    """Become the agent, until it is told to stop."""
    daemon = importlib.import_module("agent.daemon")
    code: int = daemon.main(env_file=Path(chosen.env_file) if chosen.env_file else None)
    return code


def version(chosen: argparse.Namespace) -> int:
    """Print the version."""
    if chosen.json:
        print_json({"version": __version__})
    else:
        print(f"berth {__version__}")
    return OK
