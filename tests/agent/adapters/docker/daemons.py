"""Daemons that are not Docker: one that answers what a test says, and one that never answers at all."""

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent.adapters.docker.settings import CallLimits, DockerSettings, PauseImage, PullPolicy
from agent.model.spec import TaskSpec

TICK = timedelta(seconds=0.3)
LIMITS = CallLimits(
    ping=TICK,
    inspect=TICK,
    list=TICK,
    load=TICK,
    create=TICK,
    start=TICK,
    stop=TICK,
    stop_margin=TICK,
    remove=TICK,
    volume=TICK,
    pull_begin=TICK,
    pull_inactivity=TICK * 3,
    pull=timedelta(seconds=20),
)
LONG = timedelta(seconds=10)
PATIENT = replace(LIMITS, inspect=LONG, list=LONG, load=LONG, create=LONG, volume=LONG)
"""For a daemon that answers: a busy machine is slow as well."""


def settings_for(host: str, **changes: Any) -> DockerSettings:
    """Of an agent that asks such a daemon."""
    settings = DockerSettings(
        cluster="test",
        pause=PauseImage("sha256:feed", "pause:1", Path("/nonexistent/pause.tar")),
        host=host,
        limits=LIMITS,
        pulls=PullPolicy(attempts=3, first_pause=timedelta(milliseconds=10)),
        task_limits=False,
    )
    return replace(settings, **changes)


def inspected(
    name: str,
    task: TaskSpec,
    *,
    running: bool = True,
    started: bool = True,
    identity: str = "c0ffee",
    **state: Any,
) -> dict[str, Any]:
    """What Docker says of a container of the task. ``state``: more of its state, in Docker's names."""
    return {
        "Id": identity,
        "Name": f"/{name}",
        "Created": "2026-01-01T12:00:00Z",
        "Config": {
            "Labels": {
                "com.amazonaws.ecs.task-arn": task.arn,
                "com.amazonaws.ecs.container-name": "app",
            }
        },
        "State": {
            "Running": running,
            "StartedAt": "2026-01-01T12:00:00Z" if started else "0001-01-01T00:00:00Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "Pid": 42 if running else 0,
            **state,
        },
    }


@dataclass
class Request:
    """What the daemon was asked. ``path`` without the version; the body is decoded JSON or None."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: object


class Answer:
    """What a handler may give: a status, JSON, and for streams what to send piece by piece."""

    def __init__(
        self, status: int = 200, document: object = None, pieces: Callable[[], object] | None = None
    ) -> None:
        self.status = status
        self.document = document
        self.pieces = pieces


Handler = Callable[[Request], Answer]


class ScriptedDaemon:
    """Speaks HTTP on a Unix socket. ``routes``: (method, path) → handler; the API's version is 1.41."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Request] = []
        self.routes: dict[tuple[str, str], Handler] = {
            ("GET", "/version"): lambda _: Answer(document={"ApiVersion": "1.41"}),
            ("GET", "/_ping"): lambda _: Answer(document="OK"),
            ("GET", "/info"): lambda _: Answer(document={"CgroupVersion": "1", "CgroupDriver": "cgroupfs"}),
            ("GET", "/images/sha256:feed/json"): lambda _: Answer(document={"Id": "sha256:feed"}),
        }
        self._server = _Server(str(path), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    def asked(self, method: str, path: str) -> list[Request]:
        return [each for each in self.requests if (each.method, each.path) == (method, path)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.path.unlink(missing_ok=True)
        self._thread.join()


class HungDaemon:
    """Accepts connections, reads nothing and never answers: a daemon that was stopped with SIGSTOP."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(512)
        self.host = f"unix://{path}"

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def _handler_of(daemon: ScriptedDaemon) -> type[BaseHTTPRequestHandler]:
    class HandleRequest(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def address_string(self) -> str:
            return "unix"

        def do_GET(self) -> None:
            self._answer()

        do_POST = do_DELETE = do_GET  # noqa: N815

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            path = "/" + parts.path.split("/", 2)[2] if parts.path.startswith("/v1.") else parts.path
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            body = json.loads(raw) if raw and self.headers.get("Content-Type") == "application/json" else None
            request = Request(self.command, path, parse_qs(parts.query), dict(self.headers), body)
            daemon.requests.append(request)
            handler = daemon.routes.get((self.command, path))
            answer = handler(request) if handler else Answer(404, {"message": f"page not found: {path}"})
            try:
                self._send(answer)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            if answer.pieces is None:
                text = answer.document if isinstance(answer.document, str) else json.dumps(answer.document)
                payload = b"" if answer.status in {204, 304} else str(text).encode()
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in answer.pieces():
                if isinstance(piece, float):
                    self.wfile.flush()
                    time.sleep(piece)
                    continue
                data = piece if isinstance(piece, bytes) else f"{json.dumps(piece)}\n".encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    return HandleRequest
