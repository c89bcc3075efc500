"""A Docker API on a socket of its own, with canned answers, for what asks Docker without the SDK."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class DockerSocket:
    """A Docker that answers on a socket of its own what a test has put into ``answers``; ``is_silent``: never."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            "/_ping": (200, "OK"),
            "/info": (200, {"CgroupVersion": "2", "CgroupDriver": "systemd", "LiveRestoreEnabled": True}),
            "/version": (200, {"Version": "27.0.1", "ApiVersion": "1.46"}),
            "/containers/json": (200, []),
        }
        self.asked: list[str] = []
        self.silence = threading.Event()
        self.is_silent = False
        outer = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.asked.append(f"{self.command} {self.path}")
                if outer.is_silent:
                    outer.silence.wait(20)
                    return
                status, document = outer.answers.get(path, (404, {"message": f"no {path}"}))
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_DELETE(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                self.do_GET()

            def address_string(self) -> str:
                return "test"

            def log_message(self, *_: object) -> None:
                return None

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                return None

        self.host = f"unix://{path}"
        self.server = Server(str(path), Answering)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def end(self) -> None:
        self.silence.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
