import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from multidict import CIMultiDict

from agent.adapters.local.keys import KeyPair, load_or_make
from agent.adapters.local.signatures import Verifier
from tests.fakes.docker_socket import DockerSocket

CLUSTER_ARN = "arn:aws:ecs:us-east-1:111122223333:cluster/default"


class StandIn:
    """A small agent: the ECS calls and the introspection paths that the command line uses, on one loopback port."""

    def __init__(self, keys: KeyPair) -> None:
        self.verifier = Verifier(keys, "us-east-1")
        self.definitions: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self.room = 1000
        self.faults: list[BaseException | None] = []
        self.become = "RUNNING"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._asked_class())
        # a client that gave up is part of a test; the traceback of its broken pipe is not
        self.server.handle_error = lambda *_: self.faults.append(sys.exception())  # type: ignore[method-assign]
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def add_task(self, number: int, **more: Any) -> dict[str, Any]:
        task = {
            "taskArn": f"arn:aws:ecs:us-east-1:111122223333:task/default/{number:032x}",
            "clusterArn": CLUSTER_ARN,
            "taskDefinitionArn": "arn:aws:ecs:us-east-1:111122223333:task-definition/web:1",
            "lastStatus": self.become,
            "desiredStatus": "RUNNING",
            "healthStatus": "UNKNOWN",
            "createdAt": 1_767_225_600.5 + number % 1000,
            "containers": [{"name": "web", "lastStatus": self.become, "image": "web:1"}],
            "attachments": [
                {
                    "type": "ElasticNetworkInterface",
                    "details": [{"name": "privateIPv4Address", "value": f"10.211.0.{number % 200 + 10}"}],
                }
            ],
        } | more
        self.tasks.append(task)
        return task

    def names_of_calls(self) -> list[str]:
        return [name for name, _ in self.calls]

    def ecs(self, operation: str, request: dict[str, Any]) -> tuple[int, Any]:
        self.calls.append((operation, request))
        if operation in self.answers:
            return self.answers[operation]
        verb = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
        answer: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, verb)
        return 200, answer(request)

    def introspect(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        self.calls.append((path, query))
        return self.answers.get(path, (404, {"message": f"no {path}"}))

    def register_task_definition(self, request):
        revision = len(self.definitions) + 1
        arn = f"arn:aws:ecs:us-east-1:111122223333:task-definition/{request['family']}:{revision}"
        self.definitions.append(
            request | {"taskDefinitionArn": arn, "revision": revision, "status": "ACTIVE"}
        )
        return {"taskDefinition": self.definitions[-1]}

    def describe_task_definition(self, request):
        return {"taskDefinition": self.definitions[-1]}

    def run_task(self, request):
        placed = min(request["count"], self.room)
        self.room -= placed
        failure = {"arn": CLUSTER_ARN, "reason": "RESOURCE:MEMORY", "detail": "64 MiB are wanted"}
        tasks = [
            self.add_task(0xABCD0000 + len(self.tasks), taskDefinitionArn=request["taskDefinition"])
            for _ in range(placed)
        ]
        return {"tasks": tasks, "failures": [failure] * (request["count"] - placed)}

    def list_tasks(self, request):
        # one per page, so that paging is real
        wanted = [task["taskArn"] for task in self.tasks if task["desiredStatus"] == request["desiredStatus"]]
        start = int(request.get("nextToken", 0))
        more = {"nextToken": str(start + 1)} if start + 1 < len(wanted) else {}
        return {"taskArns": wanted[start : start + 1], **more}

    def describe_tasks(self, request):
        found = [
            task for task in self.tasks if {task["taskArn"], task["taskArn"][-32:]} & set(request["tasks"])
        ]
        return {"tasks": found, "failures": []}

    def stop_task(self, request):
        task = next(task for task in self.tasks if task["taskArn"] == request["task"])
        task |= {"desiredStatus": "STOPPED", "stoppedReason": request["reason"]}
        return {"task": task}

    def list_container_instances(self, request):
        return {"containerInstanceArns": ["arn:aws:ecs:us-east-1:111122223333:container-instance/default/1"]}

    def describe_container_instances(self, request):
        return {"containerInstances": [{"attributes": [{"name": "ecs.subnet-id", "value": "subnet-own"}]}]}

    def _asked_class(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Asked(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                url = f"http://{self.headers['Host']}{self.path}"
                stand_in.verifier.check(
                    "POST", url, CIMultiDict(self.headers.items()), body, datetime.now(UTC)
                )
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                self._answer(*stand_in.ecs(operation, json.loads(body)))

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                self._answer(*stand_in.introspect(parts.path, query))

            def do_HEAD(self) -> None:
                self.send_response(stand_in.introspect(self.path, {})[0])
                self.end_headers()

            def _answer(self, status: int, document: Any) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(document if isinstance(document, bytes) else json.dumps(document).encode())

            def log_message(self, *_: Any) -> None:
                """Tests are quiet."""

        return Asked


@pytest.fixture
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with nothing of this machine in it."""
    for name in (
        "AWS_ENDPOINT_URL_ECS",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "BERTH_BACKEND",
        "ECS_CLUSTER",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BERTH_ENV_FILE", "/dev/null")
    monkeypatch.setenv("ECS_DATADIR", str(tmp_path / "data"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return tmp_path / "data"


@pytest.fixture
def agent(data_directory: Path, monkeypatch: pytest.MonkeyPatch):
    stand_in = StandIn(load_or_make(data_directory))
    monkeypatch.setenv("BERTH_API_ADDRESS", stand_in.address)
    monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", stand_in.address)
    thread = threading.Thread(target=stand_in.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()
    thread.join()
    assert [fault for fault in stand_in.faults if not isinstance(fault, ConnectionError)] == []


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[DockerSocket]:
    docker = DockerSocket(tmp_path / "d.sock")
    yield docker
    docker.end()
