"""127.0.0.1:51678: what this agent does, for people and programs on this machine. Changes nothing."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from agent.endpoints.health import HealthBoard
from agent.endpoints.naming import NotOneTask, find_by_docker_id, find_task
from agent.endpoints.serving import Limits
from agent.endpoints.views import EMPTY_TASK, ecs_task, explanations, full_task, health_document
from agent.lifecycle.gates import containers_removed, retention_over
from agent.model.channels import ChannelStatus
from agent.model.errors import AgentError, RuntimeUnavailable
from agent.model.explanation import Explanation
from agent.model.state import Container, TaskState
from agent.ports.clock import Clock
from agent.ports.directory import TaskDirectory
from agent.ports.runtime import ContainerLogs, LogQuery

log = structlog.get_logger()

_COMMANDS = ("/v1/metadata", "/v1/tasks", "/license")
_LOOPBACK_HOST = re.compile(r"(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
INTROSPECTION_LIMITS = Limits(read_seconds=30.0, write_seconds=3600.0, connections=64)
"""Patient: somebody may page through a container's output."""

_KEPT_ON_PURPOSE = frozenset({retention_over.__name__, containers_removed.__name__})
"""Gates of a task that has ended: its containers stay for those who want to look at them."""

_LEAKS_LIMIT = 10.0  # seconds; looking for leftovers may ask Docker


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who this agent is. ``container_instance`` None: not registered yet. ``version``: the text shown."""

    cluster: str
    container_instance: str | None
    version: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What the endpoint asks the rest of the agent for. All but ``leaks`` and ``logs`` answer from memory.

    ``leaks``: names of things on this machine that belong to no task, by kind. ``config``: each effective
    setting with its source, ready for JSON. ``channels``: the connections to the control plane, if the
    backend has any. ``known``: the tasks and sandboxes that are this agent's, ready for JSON.
    """

    directory: TaskDirectory
    health: HealthBoard
    identity: Callable[[], NodeIdentity]
    explain: Callable[[TaskState, datetime], tuple[Explanation, ...]]
    logs: ContainerLogs
    leaks: Callable[[], Awaitable[Mapping[str, Sequence[str]]]]
    config: Callable[[], Any]
    channels: Callable[[], tuple[ChannelStatus, ...]] = lambda: ()
    known: Callable[[], Mapping[str, Any]] = dict


def introspection_application(answers: Answers, clock: Clock, *, license_text: str) -> web.Application:
    """The endpoint (ecs-protocol 7.7), what is ours under ``/berth/v1/``, and ``/health``."""
    shown = _Introspection(answers, clock, license_text)
    application = web.Application(middlewares=[_local_only])
    application.add_routes(
        [
            web.get("/v1/metadata", shown.metadata),
            web.get("/v1/tasks", shown.tasks),
            web.get("/license", shown.license),
            web.get("/health", shown.health),
            web.get("/berth/v1/tasks", shown.full_tasks),
            web.get("/berth/v1/explain", shown.explain),
            web.get("/berth/v1/logs", shown.logs, allow_head=False),
            web.get("/berth/v1/leaks", shown.leaks),
            web.get("/berth/v1/known", shown.known),
            web.get("/berth/v1/config", shown.config),
            web.get("/berth/{rest:.*}", _unknown),
            web.get("/{rest:.*}", _commands),
        ]
    )
    return application


class _Introspection:
    def __init__(self, answers: Answers, clock: Clock, license_text: str) -> None:
        self._answers = answers
        self._clock = clock
        self._license = license_text

    async def metadata(self, _: web.Request) -> web.Response:
        identity = self._answers.identity()
        return _json(
            {
                "Cluster": identity.cluster,
                "ContainerInstanceArn": identity.container_instance,
                "Version": identity.version,
            }
        )

    async def tasks(self, request: web.Request) -> web.Response:
        tasks = self._answers.directory.tasks()
        query = request.query
        if "taskarn" in query and "dockerid" in query:
            return _json(EMPTY_TASK, 400)
        if "taskarn" in query:
            named = next((task for task in tasks if task.arn == query["taskarn"]), None)
            return _json(ecs_task(named)) if named is not None else _json(EMPTY_TASK, 404)
        if "dockerid" in query:
            found = find_by_docker_id(tasks, query["dockerid"])
            return (
                _json(EMPTY_TASK, found.status) if isinstance(found, NotOneTask) else _json(ecs_task(found))
            )
        return _json({"Tasks": [ecs_task(task) for task in tasks]})

    async def license(self, _: web.Request) -> web.Response:
        return web.Response(text=self._license)

    async def health(self, _: web.Request) -> web.Response:
        board = self._answers.health
        document = health_document(board.snapshot(), self._answers.channels(), self._clock.now())
        return _json(document, 503 if board.is_impaired else 200)

    async def full_tasks(self, _: web.Request) -> web.Response:
        return _json({"tasks": [full_task(task) for task in self._answers.directory.tasks()]})

    async def explain(self, request: web.Request) -> web.Response:
        if "task" not in request.query:
            return _json({"tasks": self._all_that_wait()})
        task = self._task(request)
        if isinstance(task, NotOneTask):
            return _refused(task)
        now = self._clock.now()
        return _json(explanations(task, self._answers.explain(task, now), now))

    def _all_that_wait(self) -> list[dict[str, Any]]:
        """Without tasks that are where they should be, and those that have ended and are kept for a while."""
        now = self._clock.now()
        found = ((task, self._answers.explain(task, now)) for task in self._answers.directory.tasks())
        return [
            explanations(task, waits, now)
            for task, waits in found
            if any(each.waits_for not in _KEPT_ON_PURPOSE for each in waits)
        ]

    async def leaks(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_LEAKS_LIMIT):
                found = await self._answers.leaks()
        except (AgentError, TimeoutError) as error:
            problem = str(error) or f"looking took longer than {_LEAKS_LIMIT:.0f} s"
            return _json({"message": f"cannot look for leftovers now: {problem}"}, 503)
        return _json({kind: list(names) for kind, names in found.items()})

    async def known(self, _: web.Request) -> web.Response:
        return _json(self._answers.known())

    async def config(self, _: web.Request) -> web.Response:
        return _json(self._answers.config())

    async def logs(self, request: web.Request) -> web.StreamResponse:
        wanted = self._container(request)
        if isinstance(wanted, NotOneTask):
            return _refused(wanted)
        tail = request.query.get("tail", "")
        if tail and not tail.isdecimal():
            return _json({"message": f"tail {tail!r} is not a number of lines; expected 0 or more"}, 400)
        since = request.query.get("since", "")
        if since and not _SECONDS.fullmatch(since):
            return _json({"message": f"since {since!r} is no time; expected seconds since 1970"}, 400)
        follow, timestamps = (
            request.query.get(name, "").lower() in {"1", "true", "yes"} for name in ("follow", "timestamps")
        )
        if wanted.container_id is None:
            message = f"container {wanted.name} has not been created yet (it is {wanted.status.name})"
            return _json({"message": message}, 409)
        pieces = self._answers.logs.read(
            wanted.container_id,
            LogQuery(
                follow, int(tail) if tail else None, float(since) if since else None, timestamps=timestamps
            ),
        )
        try:
            return await _stream(request, wanted.name, pieces)
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    def _task(self, request: web.Request) -> TaskState | NotOneTask:
        return find_task(self._answers.directory.tasks(), request.query.get("task", ""))

    def _container(self, request: web.Request) -> Container | NotOneTask:
        task = self._task(request)
        if isinstance(task, NotOneTask):
            return task
        name = request.query.get("container", "")
        names = ", ".join(container.name for container in task.containers)
        if not name and len(task.containers) == 1:
            return task.containers[0]
        if not name:
            return NotOneTask(400, f"container is missing; expected one of {names}")
        try:
            return task.container(name)
        except KeyError:
            return NotOneTask(404, f"task {task.task_id} has no container {name!r}; it has {names}")


async def _stream(request: web.Request, name: str, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    try:
        # the first piece decides whether there is anything to say 200 about
        async for piece in pieces:
            if not response.prepared:
                await response.prepare(request)
            await response.write(piece)
    except ConnectionError:
        return response  # the reader has gone
    except RuntimeUnavailable as error:
        if not response.prepared:
            return _json({"message": f"cannot read the logs of {name}: {error}"}, 503)
        # The body has begun: only a connection that breaks off says that it is not whole.
        log.warning("logs.cut", container=name, reason=str(error))
        if request.transport is not None:
            request.transport.abort()
        return response
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


@web.middleware
async def _local_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if peer is None or not ip_address(peer[0]).is_loopback:
        return _json({"message": "this endpoint answers its own machine only"}, 403)
    # A web page in a browser on this machine may reach this port under a name of its own.
    if not _LOOPBACK_HOST.fullmatch(request.headers.get("Host", "")):
        return _json({"message": "the Host header must be localhost or a loopback address"}, 403)
    if request.method not in {"GET", "HEAD"}:
        return _json({"message": f"method {request.method} is not allowed; this endpoint is read-only"}, 405)
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception:
        # a bug must cost one answer, not the connection
        log.exception("request.crashed", path=request.path)
        return _json({"message": "internal error; the agent's log has the trace"}, 500)


async def _commands(_: web.Request) -> web.Response:
    return _json({"AvailableCommands": list(_COMMANDS)})


async def _unknown(request: web.Request) -> web.Response:
    return _json({"message": f"there is no {request.path}"}, 404)


def _refused(problem: NotOneTask) -> web.Response:
    return _json({"message": problem.message}, problem.status)


def _json(document: Any, status: int = 200) -> web.Response:
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"})
