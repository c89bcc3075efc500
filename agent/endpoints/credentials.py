"""169.254.170.2: gives a task the credentials of its own roles, and nobody else's."""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agent.endpoints.access import Caller, Refusal, audit_path, refusal_of
from agent.endpoints.audit import (
    GET_CREDENTIALS,
    GET_CREDENTIALS_EXECUTION_ROLE,
    AuditLog,
    AuditRecord,
)
from agent.endpoints.pace import Buckets, Pace, Quiet
from agent.model.credentials import Credentials
from agent.model.errors import CredentialsUnavailable, UnknownRole
from agent.model.spec import TaskRole
from agent.model.state import TaskState
from agent.ports.clock import Clock
from agent.ports.credentials import CredentialsProvider
from agent.ports.directory import TaskDirectory

log = structlog.get_logger()

ANSWER_LIMIT = timedelta(seconds=1.8)
"""SDKs give up after two seconds; a 503 before that makes them try again."""

_SO_BINDTODEVICE = getattr(socket, "SO_BINDTODEVICE", 25)
_THROTTLED = "You have reached maximum request limit."
_QUIET = 60.0  # seconds between two warnings of one kind about one caller
_SUSPICIOUS = frozenset({403, 405})


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose role an id belongs to, and what its requests are called in the audit log."""

    task: TaskState
    role: TaskRole
    event: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    subject: Subject | None = None


def credentials_application(
    directory: TaskDirectory,
    provider: CredentialsProvider,
    clock: Clock,
    audit: AuditLog,
    *,
    task_interface: str = "ecs-bridge",
    pace: Pace | None = None,
    answer_limit: timedelta = ANSWER_LIMIT,
    is_ready: Callable[[], bool] = lambda: True,
) -> web.Application:
    """The endpoint (ecs-protocol 6.2), to be served on sockets that are bound to one interface each.

    ``task_interface``: the bridge that tasks ask from; a request that came in elsewhere is never a task's.
    ``is_ready`` False: not all tasks of before a restart are known yet, so an unknown id gets 503, not 400.
    ``answer_limit``: how long a request waits for credentials that must be fetched first.
    """
    endpoint = _CredentialsEndpoint(
        directory,
        provider,
        clock,
        task_interface=task_interface,
        answer_limit=answer_limit,
        is_ready=is_ready,
    )
    application = web.Application(middlewares=[_guard(endpoint, audit, Buckets(pace or Pace()))])
    application.on_response_prepare.append(_unnamed)

    async def close_audit(_: web.Application) -> None:
        audit.close()

    application.on_cleanup.append(close_audit)
    return application


def subject_of(task: TaskState, credentials_id: str) -> Subject | None:
    """Which of the task's roles has that id."""
    role = task.spec.task_role
    if role is not None and role.credentials_id == credentials_id:
        return Subject(task, role, GET_CREDENTIALS)
    role = task.spec.execution_role
    if role is not None and role.credentials_id == credentials_id:
        return Subject(task, role, GET_CREDENTIALS_EXECUTION_ROLE)
    return None


def credentials_document(credentials: Credentials) -> bytes:
    """What a caller gets: the keys in the order of the reference."""
    return _compact(
        {
            "RoleArn": credentials.role_arn,
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.token,
            "Expiration": f"{credentials.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        }
    )


class _CredentialsEndpoint:
    def __init__(
        self,
        directory: TaskDirectory,
        provider: CredentialsProvider,
        clock: Clock,
        *,
        task_interface: str,
        answer_limit: timedelta,
        is_ready: Callable[[], bool],
    ) -> None:
        self._directory = directory
        self._provider = provider
        self._clock = clock
        self._task_interface = task_interface
        self._answer_limit = answer_limit.total_seconds()
        self._is_ready = is_ready

    async def answer(self, caller: Caller, path: str, query_id: str) -> _Answer:
        """The answer to a request that passed all rules about its form."""
        if path == "/v1/credentials":
            return await self._credentials(caller, query_id, version=1)
        if path.startswith("/v2/credentials/"):
            return await self._credentials(caller, path.removeprefix("/v2/credentials/"), version=2)
        return _Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")

    def task_name(self, caller: Caller) -> str:
        """The id of the task behind an address, or the address."""
        task = self._directory.by_address(caller.address)
        return task.task_id if task is not None else caller.address

    async def _credentials(self, caller: Caller, credentials_id: str, *, version: int) -> _Answer:
        says = f"CredentialsV{version}Request: "
        if not credentials_id:
            return _error(400, "NoIdInRequest", f"{says}No Credential ID in the request")
        task = self._directory.by_credentials_id(credentials_id)
        subject = subject_of(task, credentials_id) if task is not None else None
        if subject is None:
            if not self._is_ready():
                return _unavailable(says, None)
            return _error(400, "InvalidIdInRequest", f"{says}Credentials not found")
        if not self._may_have(caller, subject):
            message = f"{says}These credentials belong to another caller"
            return _error(403, "WrongSource", message, subject)
        try:
            async with asyncio.timeout(self._answer_limit):
                credentials = await self._provider.for_role(subject.role, subject.task.arn)
        except (CredentialsUnavailable, TimeoutError) as error:
            log.warning(
                "credentials.missed", task_id=subject.task.task_id, role=subject.role.arn, reason=_why(error)
            )
            return _unavailable(says, subject)
        except UnknownRole as error:
            log.warning(
                "credentials.missed", task_id=subject.task.task_id, role=subject.role.arn, reason=str(error)
            )
            return _error(400, "UnknownRole", f"{says}{error}", subject)
        if credentials.expires_at <= self._clock.now():
            log.error("credentials.expired", task_id=subject.task.task_id, role=subject.role.arn)
            return _unavailable(says, subject)
        return _Answer(200, credentials_document(credentials), subject=subject)

    def _may_have(self, caller: Caller, subject: Subject) -> bool:
        # Docker's log drivers fetch credentials of the execution role from within the host. A task never
        # needs them, and the host never needs a task's.
        if subject.event == GET_CREDENTIALS_EXECUTION_ROLE:
            return caller.is_this_host
        if caller.interface not in ("", self._task_interface):
            return False
        owner = self._directory.by_address(caller.address)
        return owner is not None and owner.arn == subject.task.arn


def _guard(endpoint: _CredentialsEndpoint, audit: AuditLog, buckets: Buckets) -> Middleware:
    quiet = Quiet(_QUIET)

    async def decide(request: web.Request, caller: Caller) -> _Answer:
        now = asyncio.get_running_loop().time()
        if not buckets.take(caller.address, now):
            if quiet.may_say(caller.address, "throttled", now):
                log.warning("caller.throttled", caller=endpoint.task_name(caller))
            return _Answer(
                429, _THROTTLED.encode(), "text/plain; charset=utf-8", headers=(("Retry-After", "1"),)
            )
        refusal = refusal_of(request.method, request.raw_path, request.headers)
        if refusal is not None:
            return _refused(refusal)
        return await endpoint.answer(caller, request.path, request.query.get("id", ""))

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        del handler  # there are no routes: a path is data, and nothing is ever redirected
        caller = _caller(request)
        try:
            answer = await decide(request, caller)
        except Exception:
            # a bug must cost one answer, not the connection, and must not show its trace to the caller
            log.exception("request.crashed", path=audit_path(request.raw_path))
            answer = _error(500, "InternalServerError", "Internal server error")
        now = asyncio.get_running_loop().time()
        if answer.status in _SUSPICIOUS and quiet.may_say(caller.address, "refused", now):
            log.warning(
                "caller.refused",
                caller=endpoint.task_name(caller),
                interface=caller.interface,
                owner=answer.subject.task.task_id if answer.subject else None,
                status=answer.status,
            )
        _record(audit, request, caller, answer)
        headers = {"Content-Type": answer.content_type, **dict(answer.headers)}
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    return guard


def _caller(request: web.Request) -> Caller:
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    if transport is None or peer is None:
        raise web.HTTPBadRequest(text="the connection is gone")
    try:
        bound_to: bytes = transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, _SO_BINDTODEVICE, 16
        )
    except OSError as error:  # the connection or its interface has gone meanwhile
        raise web.HTTPBadRequest(text="the connection is gone") from error
    return Caller(str(peer[0]), int(peer[1]), bound_to.rstrip(b"\0").decode("ascii", "replace"))


def _record(audit: AuditLog, request: web.Request, caller: Caller, answer: _Answer) -> None:
    subject = answer.subject
    path = audit_path(request.raw_path)
    audit.write(
        AuditRecord(
            status=answer.status,
            remote=caller.remote,
            path=path,
            user_agent=request.headers.get("User-Agent", ""),
            task=subject.task.arn if subject else None,
            event=subject.event if subject else None,
        )
    )
    log.debug(
        "credentials.answered",
        status=answer.status,
        path=path,
        source=caller.address,
        interface=caller.interface,
        task_id=subject.task.task_id if subject else None,
    )


async def _unnamed(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)


def _refused(refusal: Refusal) -> _Answer:
    answer = _error(refusal.status, refusal.code, refusal.message)
    if refusal.status == web.HTTPMethodNotAllowed.status_code:
        return _Answer(answer.status, answer.body, headers=(("Allow", "GET"),))
    return answer


def _unavailable(says: str, subject: Subject | None) -> _Answer:
    body = _error_body(503, "CredentialsUninitialized", f"{says}Credentials uninitialized for ID")
    return _Answer(503, body, headers=(("Retry-After", "1"),), subject=subject)


def _error(status: int, code: str, message: str, subject: Subject | None = None) -> _Answer:
    return _Answer(status, _error_body(status, code, message), subject=subject)


def _error_body(status: int, code: str, message: str) -> bytes:
    return _compact({"code": code, "message": message, "HTTPErrorCode": status})


def _compact(document: dict[str, str | int]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _why(error: Exception) -> str:
    return (
        "the source of credentials has not answered in time"
        if isinstance(error, TimeoutError)
        else str(error)
    )
