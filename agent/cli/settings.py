"""``berth env`` and ``berth config``: what a client needs to know, and what the agent has been told."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import NOT_RUNNING, OK, USAGE, Failure
from agent.cli.output import note, print_json, print_table
from agent.settings import BadSettings, Settings, environment


def env(chosen: argparse.Namespace) -> int:
    """Print lines for a shell. They hold a secret that is good for this machine's agent only."""
    connection = Connection.find(chosen.env_file)
    connection.needs_own_api("the AWS CLI needs no other endpoint, as in aws ecs list-tasks")
    keys = connection.key_pair()
    variables = {
        "AWS_ENDPOINT_URL_ECS": keys.endpoint,
        "AWS_REGION": keys.region,
        "AWS_DEFAULT_REGION": keys.region,
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
    }
    if chosen.json:
        print_json(variables)
        return OK
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    # a session token of a real account beside these keys would break every signature
    print("unset AWS_SESSION_TOKEN AWS_PROFILE")
    return OK


def config(chosen: argparse.Namespace) -> int:
    """Print what the running agent uses; if none runs, what it would use."""
    described = None if chosen.offline else _of_running_agent(chosen)
    if described is None:
        described = _read_here(chosen)
    if chosen.json:
        print_json({"settings": described})
        return OK
    print_table(
        ("SETTING", "VALUE", "SOURCE"),
        [
            (
                item["name"],
                item["value"],
                item["source"] + ("" if item.get("has_effect", True) else " (no effect)"),
            )
            for item in described
        ],
    )
    return OK


def _of_running_agent(chosen: argparse.Namespace) -> list[dict[str, Any]] | None:
    try:
        answer = Connection.find(chosen.env_file).get("/berth/v1/config")
    except Failure as failure:
        if failure.code != NOT_RUNNING:
            raise
        note(chosen, "the agent is not running; these are the settings that it would use")
        return None
    settings: list[dict[str, Any]] = answer["settings"] if isinstance(answer, dict) else answer
    return settings


def _read_here(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    try:
        settings = Settings.load(environment(), env_file=Path(chosen.env_file) if chosen.env_file else None)
    except BadSettings as error:
        raise Failure(f"the agent cannot start with these settings:\n{error}", USAGE) from error
    for warning in settings.warnings:
        note(chosen, warning)
    return [
        {"name": item.name, "value": item.value, "source": item.source, "has_effect": item.has_effect}
        for item in settings.described()
    ]
