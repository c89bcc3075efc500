"""Docker's own API over its socket, with a limit on every call: it must work while Docker hangs."""

import http.client
import json
import socket
from typing import Any
from urllib.parse import quote, urlsplit

from agent.adapters.docker.dial import connect

_UNIX = "unix://"
_LARGEST = 64 * 1024 * 1024
_NOT_FOUND = 404


class DockerSilent(Exception):
    """Docker is not there, does not answer in time, or says no. The text says which."""


class Dockerd:
    """``host``: as in DOCKER_HOST. ``timeout``: seconds for one call. Asks in the daemon's own version."""

    def __init__(self, host: str, timeout: float = 4.0) -> None:
        self.host = host
        self._timeout = timeout

    def get(self, path: str, **query: str) -> Any:
        """The JSON answer, or the text of an answer that is none. Raise ``DockerSilent``."""
        return self._call("GET", path, query)

    def post(self, path: str, **query: str) -> Any:
        """As ``get``, for what changes something."""
        return self._call("POST", path, query)

    def delete(self, path: str, **query: str) -> Any:
        """Delete; fine if it is gone already. Raise ``DockerSilent``."""
        return self._call("DELETE", path, query, is_fine_if_absent=True)

    def exists(self, path: str) -> bool:
        """Whether there is such a thing. Raise ``DockerSilent`` while nobody can say."""
        status, _ = self._exchange("GET", path, {})
        if status not in (http.client.OK, _NOT_FOUND):
            raise DockerSilent(f"Docker answered {status} to {path}")
        return status == http.client.OK

    def _call(self, method: str, path: str, query: dict[str, str], *, is_fine_if_absent: bool = False) -> Any:
        status, body = self._exchange(method, path, query)
        if status == _NOT_FOUND and is_fine_if_absent:
            return None
        try:
            document = json.loads(body) if body else None
        except ValueError:
            document = body.decode(errors="replace").strip()
        if status >= http.client.BAD_REQUEST:
            said = document.get("message") if isinstance(document, dict) else document
            raise DockerSilent(f"Docker answered {status} to {method} {path}: {said}")
        return document

    def _exchange(self, method: str, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        words = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        connection = _connection(self.host, self._timeout)
        try:
            connection.request(method, f"{path}?{words}" if words else path, headers={"Host": "docker"})
            answer = connection.getresponse()
            return answer.status, answer.read(_LARGEST)
        except TimeoutError as error:
            raise DockerSilent(
                f"Docker at {self.host} has not answered within {self._timeout:g} s"
            ) from error
        except FileNotFoundError as error:
            raise DockerSilent(f"there is no {self.host.removeprefix(_UNIX)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise DockerSilent(
                f"Docker at {self.host} cannot be asked: {str(error) or type(error).__name__}"
            ) from error
        finally:
            connection.close()


def _connection(host: str, timeout: float) -> http.client.HTTPConnection:
    if host.startswith(_UNIX):
        return _UnixConnection(host.removeprefix(_UNIX), timeout)
    parts = urlsplit(host if "://" in host else f"tcp://{host}")
    if not parts.hostname:
        raise DockerSilent(f"DOCKER_HOST is {host!r}, expected unix:///path or tcp://host:port")
    return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=timeout)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        connect(self.sock, self._path)
