"""Nothing secret is written down, shown or left in a process, however much is logged."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import INTROSPECTION, Agent
from tests.e2e.inside import Containers, credentials_url, parsed
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

SETTINGS = {"ECS_LOGLEVEL": "debug", "ECS_LOGFILE": "{place}/second.log", "ECS_LOG_OUTPUT_FORMAT": "json"}
ROLE = "arn:aws:iam::111122223333:role/keeper"
PAGES = ("/v1/metadata", "/v1/tasks", "/health", "/berth/v1/tasks", "/berth/v1/config", "/berth/v1/leaks")


def test_no_secret_is_in_logs_records_answers_or_the_agents_environment(
    agent: Agent, containers: Containers
) -> None:
    task = agent.started(a_definition("keeper", {"name": "app"}, taskRoleArn=ROLE))
    url, network = credentials_url(containers, task), containers.network(task)
    given = parsed(network.fetch(url))
    assert network.fetch(f"{url}x").code == 400
    keys = agent.aws_environment()
    agent.berth("explain", task.id)

    secrets = {
        "the role's secret key": given["SecretAccessKey"],
        "the role's token": given["Token"],
        "the key pair": keys["AWS_SECRET_ACCESS_KEY"],
    }
    assert all(len(value) >= 16 for value in secrets.values())
    credentials_id = url.rsplit("/", 1)[1]
    # an id opens nothing from elsewhere, but it has no business outside the records either
    shown = {**secrets, "the id of the credentials": credentials_id}
    assert _found(secrets, _files(agent)) == []
    assert _found(shown, _logs(agent)) == []
    assert _found(shown, _answers(agent, task.arn)) == []
    assert _found(shown, _processes(agent)) == []
    # the search itself finds what is there
    assert _found(secrets, [("the key file", (agent.data / "credentials.json").read_text())])
    for file in ("credentials.json", "berth.db"):
        assert (agent.data / file).stat().st_mode & 0o077 == 0


def _found(secrets: dict[str, str], places: list[tuple[str, str]]) -> list[tuple[str, str]]:
    assert places
    return [(name, place) for name, value in secrets.items() for place, text in places if value in text]


def _files(agent: Agent) -> list[tuple[str, str]]:
    return [
        (str(file), file.read_bytes().decode("latin-1"))
        for directory in (agent.data, agent.run_directory)
        for file in directory.rglob("*")
        if file.is_file() and file.name != "credentials.json"
    ]


def _logs(agent: Agent) -> list[tuple[str, str]]:
    files = [agent.log_file, *agent.place.glob("second.log*"), *agent.data.glob("*.log*")]
    assert len(files) >= 3
    return [(str(file), file.read_text(errors="replace")) for file in files]


def _answers(agent: Agent, arn: str) -> list[tuple[str, str]]:
    pages = (*PAGES, f"/berth/v1/explain?task={arn}", f"/v1/tasks?taskarn={arn}")
    return [(INTROSPECTION + page, json.dumps(agent.get(page)[1])) for page in pages]


def _processes(agent: Agent) -> list[tuple[str, str]]:
    return [
        (str(file), file.read_bytes().decode("latin-1"))
        for pid in _family(agent.pid)
        for file in (Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/cmdline"))
    ]


def _family(pid: int) -> Iterator[int]:
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _family(int(child))
