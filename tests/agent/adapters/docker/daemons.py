"""Daemons that are not Docker: one that answers what a test says, and one that never answers at all."""

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


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
