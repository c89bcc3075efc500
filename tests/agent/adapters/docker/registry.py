"""An image registry on loopback with one image, open or behind a password."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pause.image import Image

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves ``<address>/<repository>:<tag>``. ``password``: what user ``tester`` must show, None: nothing."""

    def __init__(self, image: Image, *, password: str | None = None) -> None:
        with tarfile.open(fileobj=io.BytesIO(image.content)) as archive:
            [entry] = json.loads(_member(archive, "manifest.json"))
            config = _member(archive, entry["Config"])
            layer = gzip.compress(_member(archive, entry["Layers"][0]), mtime=0)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _described(config, "application/vnd.docker.container.image.v1+json"),
            "layers": [_described(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
        }
        self.manifest = json.dumps(document).encode()
        self.digest = _digest(self.manifest)
        self.blobs = {_digest(each): each for each in (config, layer)}
        self.login = None if password is None else base64.b64encode(f"tester:{password}".encode()).decode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)
    assert found is not None
    return found.read()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(content: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _handler_of(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class HandleRequest(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            name = self.path.rpartition("/")[2]
            if registry.login is not None and self.headers.get("Authorization") != f"Basic {registry.login}":
                self._send(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', "application/json", with_body)
            elif "/manifests/" in self.path and name in {"1", registry.digest}:
                self._send(200, registry.manifest, MANIFEST, with_body)
            elif "/blobs/" in self.path and name in registry.blobs:
                self._send(200, registry.blobs[name], "application/octet-stream", with_body)
            elif self.path == "/v2/":
                self._send(200, b"{}", "application/json", with_body)
            else:
                answer = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
                self._send(404, answer, "application/json", with_body)

        def _send(self, status: int, content: bytes, kind: str, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            if kind == MANIFEST:
                self.send_header("Docker-Content-Digest", registry.digest)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    return HandleRequest
