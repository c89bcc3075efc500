"""The two doors of a running agent: its ECS API, signed, and its introspection API. Never Docker."""

import errno
import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from agent.cli.failures import FAILED, NOT_FOUND, NOT_RUNNING, USAGE, Failure
from agent.cli.signature import signed
from agent.settings import BadSettings, Whereabouts, environment

TIMEOUT = 15.0
"""Seconds that the agent has for an answer. It answers from memory, so more would not help."""

_TARGET = "AmazonEC2ContainerServiceV20141113"
_PIECE = 16_384


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What signs requests, where they go, and for which region."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    endpoint: str
    region: str


class Connection:
    """Asks the agent. Every verb raises ``Failure``."""

    def __init__(
        self, where: Whereabouts, environ: Mapping[str, str], *, timeout: float | None = None
    ) -> None:
        self.where = where
        self._environ = environ
        self._timeout = TIMEOUT if timeout is None else timeout

    @classmethod
    def find(cls, env_file: str | None = None, *, timeout: float | None = None) -> "Connection":
        """The agent of this machine, as its settings say. ``timeout``: seconds for an answer."""
        environ = environment()
        try:
            where = Whereabouts.find(environ, Path(env_file) if env_file else None)
        except BadSettings as error:
            raise Failure(f"the settings are wrong:\n{error}", USAGE) from error
        return cls(where, environ, timeout=timeout)

    def ecs(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """One call of the ECS API."""
        keys = self.key_pair()
        body = json.dumps(request).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{_TARGET}.{operation}",
            "Host": urlsplit(keys.endpoint).netloc,
        }
        signed = _signed(keys, headers, body)
        with _Exchange(
            keys.endpoint, "POST", "/", body=body, headers=signed, timeout=self._timeout
        ) as answer:
            document: dict[str, Any] = _json(answer, keys.endpoint)
            if answer.status != http.client.OK:
                raise _ecs_failure(answer.status, document)
        return document

    def needs_own_api(self, instead: str) -> None:
        """Raise ``Failure`` where that of Amazon ECS is in charge. ``instead``: the command to give there."""
        if self.where.backend != "ecs":
            return
        cluster = self.where.cluster
        whose = f"the cluster {cluster}" if cluster else "a cluster"
        chosen = f" --cluster {cluster}" if cluster else ""
        raise Failure(
            f"this machine belongs to {whose} of Amazon ECS, whose control plane decides what runs; ask "
            f"there: {instead}{chosen}. What is on this machine is told by berth ps, describe, logs, explain "
            "and status",
            USAGE,
        )

    def key_pair(self) -> KeyPair:
        """From the agent's data directory, or from the environment that ``berth env`` made.

        An agent of a cluster of Amazon ECS has no API of its own, so there is none.
        """
        self.needs_own_api("aws ecs")
        path = self.where.data_directory / "credentials.json"
        if not _is_there(path):
            # an agent in a container may have been told another directory than this shell
            path = self._where_it_runs() / path.name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return KeyPair(
                access_key_id=_one_of(content, "access_key_id", "accessKeyId"),
                secret_access_key=_one_of(content, "secret_access_key", "secretAccessKey"),
                endpoint=content.get("endpoint") or f"http://{self.where.api_address}",
                region=content.get("region") or self.where.region,
            )
        except PermissionError as error:
            return self._from_environment(f"{path} may be read by root only", error)
        except FileNotFoundError as error:
            missing = f"there is no {path}: the agent has not run here yet, or has another data directory"
            return self._from_environment(missing, error)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise Failure(
                f"{path} is no key pair ({error}); restart the agent, it makes a new one"
            ) from error

    def _where_it_runs(self) -> Path:
        """The data directory of the running agent; that of our settings if it does not say."""
        try:
            told = self.get("/berth/v1/config")["settings"]
            found = {item["name"]: item["value"] for item in told}.get("ECS_DATADIR")
        except (Failure, KeyError, TypeError):
            return self.where.data_directory
        return Path(found) if found else self.where.data_directory

    def get(self, path: str, **query: str | int | None) -> Any:
        """One answer of the introspection API, as JSON."""
        with self._asked(path, query, timeout=self._timeout) as answer:
            document = _json(answer, self.introspection)
            if answer.status != http.client.OK:
                raise _refused(answer.status, document, path)
        return document

    def health(self) -> dict[str, Any]:
        """What ``/health`` says, well or not."""
        with self._asked("/health", {}, timeout=self._timeout) as answer:
            document: dict[str, Any] = _json(answer, self.introspection)
            # 503 is how health says that something is wrong; its body says what
            if answer.status not in (http.client.OK, http.client.SERVICE_UNAVAILABLE):
                raise _refused(answer.status, document, "/health")
        return document

    def head(self, path: str) -> int:
        """The HTTP status of an answer of the introspection API."""
        with _Exchange(self.introspection, "HEAD", path, timeout=self._timeout) as answer:
            return answer.status

    def stream(self, path: str, **query: str | int | None) -> Iterator[bytes]:
        """Pieces of an answer of the introspection API, as they come."""
        with self._asked(path, query, timeout=None) as answer:
            if answer.status != http.client.OK:
                raise _refused(answer.status, _json(answer, self.introspection), path)
            try:
                while piece := answer.read1(_PIECE):
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise Failure(f"the answer of {self.introspection} broke off: {error}") from error

    @property
    def introspection(self) -> str:
        """Where the introspection API is, as a URL."""
        return f"http://{self.where.introspection_address}"

    def _asked(
        self, path: str, query: Mapping[str, str | int | None], *, timeout: float | None
    ) -> "_Exchange":
        text = urlencode({name: value for name, value in query.items() if value is not None})
        return _Exchange(self.introspection, "GET", f"{path}?{text}" if text else path, timeout=timeout)

    def _from_environment(self, why: str, error: OSError) -> KeyPair:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_ECS")
        key, secret, endpoint = (self._environ.get(name, "") for name in names)
        # without the endpoint these would be real keys of the real cloud: never use them
        if key and secret and urlsplit(endpoint).hostname in ("127.0.0.1", "::1", "localhost"):
            return KeyPair(key, secret, endpoint.rstrip("/"), self.where.region)
        code = FAILED if isinstance(error, PermissionError) else NOT_RUNNING
        todo = "use sudo" if isinstance(error, PermissionError) else "start it as root: berth agent"
        raise Failure(f"{why}; {todo}", code) from error


class _Wire(http.client.HTTPConnection):
    """A connection that is never one with itself.

    The agent's ports are in the range from which the kernel takes ports of clients. A client of a port on
    which nobody listens may be given that very port, and then finds itself at the other end. Closed in order,
    it would keep the agent from listening there for a minute.
    """

    def connect(self) -> None:
        """Raise ``ConnectionRefusedError`` also if nobody but itself is there."""
        super().connect()
        if self.sock.getsockname() == self.sock.getpeername():
            at_once = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody else is at the other end")


class _Exchange:
    """A request on a connection of its own, which is closed when its answer has been read."""

    def __init__(
        self,
        base: str,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None,
    ) -> None:
        self._base = base
        self._request = (method, path, body, dict(headers or {}))
        self._timeout = timeout
        parts = urlsplit(base)
        self._connection = _Wire(parts.hostname or "", parts.port, timeout=timeout)
        self._answer: http.client.HTTPResponse | None = None

    def __enter__(self) -> http.client.HTTPResponse:
        try:
            self._connection.request(*self._request)
            self._answer = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._failure(error) from error
        except BaseException:
            self._connection.close()
            raise
        return self._answer

    def __exit__(self, *_: object) -> None:
        # an answer that ends with its connection is no longer the connection's to close
        if self._answer is not None:
            self._answer.close()
        self._connection.close()

    def _failure(self, error: Exception) -> Failure:
        match error:
            case ConnectionRefusedError():
                return Failure(
                    f"nothing listens on {self._base}: the agent is not running; as root: berth agent",
                    NOT_RUNNING,
                )
            case TimeoutError():
                return Failure(
                    f"the agent did not answer within {self._timeout:g} s on {self._base}; its log says more"
                )
            case _:
                return Failure(f"cannot talk to the agent on {self._base}: {error}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # it may not be looked at: reading it says why


def _signed(keys: KeyPair, headers: dict[str, str], body: bytes) -> dict[str, str]:
    return signed(
        headers,
        body,
        access_key_id=keys.access_key_id,
        secret_access_key=keys.secret_access_key,
        region=keys.region,
        stamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
    )


def _json(answer: http.client.HTTPResponse, base: str) -> Any:
    try:
        body = answer.read()
        return json.loads(body) if body else {}
    except ValueError:
        return {"message": body.decode(errors="replace").strip()}
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"the answer of {base} broke off: {error}") from error


def _said(document: Any) -> str:
    if not isinstance(document, dict):
        return ""
    return next((str(document[key]) for key in ("message", "Message", "error") if document.get(key)), "")


def _refused(status: int, document: Any, path: str) -> Failure:
    codes: dict[int, int] = {http.client.NOT_FOUND: NOT_FOUND, http.client.BAD_REQUEST: USAGE}
    return Failure(
        _said(document) or f"the agent answered {status} to {path}",
        codes.get(status, FAILED),
        status=status,
    )


def _ecs_failure(status: int, document: Any) -> Failure:
    kind = str(document.get("__type", "")).rsplit("#", 1)[-1] if isinstance(document, dict) else ""
    text = ": ".join(part for part in (kind, _said(document)) if part)
    code = NOT_FOUND if kind.endswith("NotFoundException") else FAILED
    return Failure(text or f"the agent answered {status}", code)


def _one_of(content: Mapping[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(content.get(name), str):
            return str(content[name])
    raise KeyError(f"expected {names[0]}")
