"""The agent itself: run it, ask how it is, and what it left behind."""

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

from agent import __version__
from agent.cli.connection import Connection
from agent.cli.failures import FAILED, OK
from agent.cli.output import moment, print_facts, print_json, print_table, span


def run_agent(chosen: argparse.Namespace) -> int:
    """Become the agent, until it is told to stop."""
    daemon = importlib.import_module("agent.daemon")
    code: int = daemon.main(env_file=Path(chosen.env_file) if chosen.env_file else None)
    return code


def status(chosen: argparse.Namespace) -> int:
    """Print health and numbers. Exit code 1 if something is wrong with the agent."""
    connection = Connection.find(chosen.env_file)
    health = connection.health()
    metadata = connection.get("/v1/metadata")
    tasks = connection.get("/v1/tasks").get("Tasks") or []
    is_well = str(health.get("status", "")).upper() == "OK"
    if chosen.json:
        print_json({"health": health, "metadata": metadata, "tasks": len(tasks)})
        return OK if is_well else FAILED
    running = sum(task.get("KnownStatus") == "RUNNING" for task in tasks)
    print_facts(
        (
            ("agent", metadata.get("Version")),
            ("health", health.get("status")),
            ("cluster", metadata.get("Cluster")),
            ("instance", metadata.get("ContainerInstanceArn")),
            ("tasks", f"{len(tasks)}, of which {running} RUNNING"),
        )
    )
    for line in channel_lines(health, time.time()):
        print(line)
    for component in _impaired(health):
        print(f"{component.get('component', component.get('name'))}: {component.get('reason')}")
    return OK if is_well else FAILED


def leaks(chosen: argparse.Namespace) -> int:
    """Print what belongs to no task any more. Exit code 1 if there is anything."""
    document = Connection.find(chosen.env_file).get("/berth/v1/leaks")
    found = leaks_in(document)
    if chosen.json:
        print_json(document)
    elif not found:
        print("nothing is left of tasks that are gone")
    else:
        print_table(("KIND", "NAME"), found)
    return FAILED if found else OK


def version(chosen: argparse.Namespace) -> int:
    """Print the version."""
    if chosen.json:
        print_json({"version": __version__})
    else:
        print(f"berth {__version__}")
    return OK


def leaks_in(document: Any) -> list[tuple[str, str]]:
    """Kind and name of each leak: the answer has a list of names for each kind, or one list."""
    if isinstance(document, list):
        return [("thing", str(name)) for name in document]
    found = []
    for kind, names in document.items():
        if isinstance(names, list):
            found += [(kind, str(name)) for name in names]
    return found


def channel_lines(health: dict[str, Any], now: float) -> list[str]:
    """One line about each connection to the control plane. ``now``: seconds since 1970."""
    lines = []
    for channel in health.get("channels") or []:
        since, age = moment(channel.get("since")), channel.get("age_seconds")
        line = f"{channel.get('name')} channel: {channel.get('state')}"
        line += f" for {span(max(0.0, now - since.timestamp()))}" if since else ""
        line += ", no message yet" if age is None else f", last message {span(age)} ago"
        line += f" ({channel['problem']})" if channel.get("problem") else ""
        lines.append(line)
    return lines


def _impaired(health: dict[str, Any]) -> list[dict[str, Any]]:
    components = health.get("components") or health.get("reasons") or []
    return [item for item in components if isinstance(item, dict) and item.get("status") != "OK"]
