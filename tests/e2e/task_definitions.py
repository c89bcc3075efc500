"""Task definitions for end-to-end tests: files as users write them, and small ones made on the spot."""

import json
from pathlib import Path
from typing import Any

DEFINITIONS = Path(__file__).with_name("definitions")


def definition(name: str) -> dict[str, Any]:
    """One of the task definitions in that directory."""
    document: dict[str, Any] = json.loads((DEFINITIONS / f"{name}.json").read_text())
    return document


def a_definition(family: str, *containers: dict[str, Any], **task: Any) -> dict[str, Any]:
    """A small awsvpc task definition. Containers need a name; what else they lack is filled in."""
    filled = [{"image": "berth/demo-web:latest", "memory": 32, "essential": True} | one for one in containers]
    return {"family": family, "networkMode": "awsvpc", "containerDefinitions": filled} | task


def a_job(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A container whose first process is a shell with this script."""
    return {
        "name": name,
        "image": "berth/demo-job:latest",
        "entryPoint": ["sh", "-c"],
        "command": [script],
    } | more
