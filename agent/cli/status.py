"""``berth status``: one screen about the agent, from what it says of itself. Docker is not asked."""

import argparse
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import FAILED, OK, Failure
from agent.cli.output import clean, coloured, moment, print_facts, print_json, span
from agent.cli.seen import full_tasks

_FULL = 0.9  # of a disk: from here on images may not fit any more
_GIB = 1024**3
_ORDER = ("RUNNING", "PENDING", "ACTIVATING", "PROVISIONING", "DEACTIVATING", "STOPPING", "DEPROVISIONING")


def status(chosen: argparse.Namespace) -> int:
    """Print it. Exit code 1 if something is wrong with the agent."""
    connection = Connection.find(chosen.env_file)
    health = connection.health()
    metadata = connection.get("/v1/metadata")
    tasks = _tasks(connection)
    disk = _disk(connection.where.data_directory)
    waiting = [task for task in tasks if _waits(task)]
    problems = _problems(health)
    is_well = str(health.get("status", "")).upper() == "OK"
    todo = _next(problems, waiting, disk)
    if chosen.json:
        print_json(
            {
                "health": health,
                "metadata": metadata,
                "backend": connection.where.backend,
                "tasks": len(tasks),
                "tasks_by_status": _by_status(tasks),
                "disk": disk,
                "next": todo,
            }
        )
        return OK if is_well else FAILED
    print_facts(
        (
            ("agent", f"{metadata.get('Version')} (backend {connection.where.backend})"),
            ("health", health.get("status")),
            ("cluster", metadata.get("Cluster")),
            ("instance", metadata.get("ContainerInstanceArn") or "not registered yet"),
            ("tasks", _counted(tasks)),
            ("disk", _told(disk)),
        )
    )
    for line in channel_lines(health, time.time()):
        print(line)
    for problem in problems:
        print(f"{coloured('IMPAIRED')} {_problem_line(problem, time.time())}")
    for index, line in enumerate(todo):
        print(f"{'next: ' if index == 0 else '      '}{line}")
    return OK if is_well else FAILED


def channel_lines(health: dict[str, Any], now: float) -> list[str]:
    """One line about each connection to the control plane. ``now``: seconds since 1970."""
    lines = []
    for channel in health.get("channels") or []:
        since, age = moment(channel.get("since")), channel.get("age_seconds")
        line = f"{channel.get('name')} channel: {coloured(str(channel.get('state')))}"
        line += f" for {span(max(0.0, now - since.timestamp()))}" if since else ""
        line += ", no message yet" if age is None else f", last message {span(age)} ago"
        line += f" ({clean(channel['problem'])})" if channel.get("problem") else ""
        lines.append(line)
    return lines


def _tasks(connection: Connection) -> list[dict[str, Any]]:
    try:
        return full_tasks(connection)
    except Failure as failure:
        if failure.status is None:
            raise
    # an agent from before there were details
    plain = connection.get("/v1/tasks").get("Tasks") or []
    return [{"status": task.get("KnownStatus"), "goal": "RUN"} for task in plain]


def _waits(task: dict[str, Any]) -> bool:
    return task.get("status") not in ("RUNNING", "STOPPED")


def _problems(health: dict[str, Any]) -> list[dict[str, Any]]:
    components = health.get("components") or health.get("reasons") or []
    return [item for item in components if isinstance(item, dict) and item.get("status") != "OK"]


def _problem_line(problem: dict[str, Any], now: float) -> str:
    since = moment(problem.get("since"))
    age = f" (for {span(now - since.timestamp())})" if since else ""
    return clean(f"{problem.get('component')}: {problem.get('reason')}{age}")


def _by_status(tasks: list[dict[str, Any]]) -> dict[str, int]:
    found = Counter(str(task.get("status")) for task in tasks)
    known = [name for name in _ORDER if name in found]
    return {name: found[name] for name in (*known, *sorted(set(found) - set(known)))}


def _counted(tasks: list[dict[str, Any]]) -> str:
    if not tasks:
        return "none"
    parts = [f"{count} {name}" for name, count in _by_status(tasks).items()]
    return f"{len(tasks)}: {', '.join(parts)}"


def _disk(directory: Path) -> dict[str, Any] | None:
    """The file system of the agent's data; None: this user may not look, or it is not there."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return {"path": str(directory), "total": usage.total, "free": usage.free}


def _told(disk: dict[str, Any] | None) -> str | None:
    if disk is None or not disk["total"]:
        return None
    return f"{disk['path']}: {1 - disk['free'] / disk['total']:.0%} used, {disk['free'] / _GIB:.1f} GiB free"


def _next(
    problems: list[dict[str, Any]], waiting: list[dict[str, Any]], disk: dict[str, Any] | None
) -> list[str]:
    """What a person may do now, the most urgent first."""
    lines = []
    for problem in problems:
        hint = _HINTS.get(str(problem.get("component")), "berth logs --agent --level warn says more")
        if hint not in lines:
            lines.append(hint)
    if disk and disk["total"] and disk["free"] < (1 - _FULL) * disk["total"]:
        lines.append(f"the disk of {disk['path']} is nearly full: make room")
    if waiting:
        what = "1 task waits" if len(waiting) == 1 else f"{len(waiting)} tasks wait"
        one = f" {str(waiting[0].get('id'))[:12]}" if len(waiting) == 1 and waiting[0].get("id") else ""
        lines.append(f"{what}: berth explain{one} says for what")
    return lines


_HINTS = {
    "runtime": "Docker does not answer: systemctl status docker; tasks go on meanwhile",
    "backend": "what the agent reports is not taken: berth logs --agent --level warn",
    "control": "the control plane cannot be reached: network, clock and permissions of this machine",
    "telemetry": "statistics cannot be sent: network, clock and permissions of this machine",
    "firewall": "something else changes the firewall of this machine: nft list ruleset",
    "progress": "the agent is stuck: start it anew, tasks go on meanwhile",
}
"""By the component that is impaired."""
