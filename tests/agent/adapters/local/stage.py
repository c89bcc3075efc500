"""A local backend on a loopback port with a VPC in memory, real boto3 in front, and an agent played by the test."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import botocore.session
from aiohttp import web
from botocore.config import Config

from agent.adapters.local.backend import LocalBackend, LocalOptions
from agent.adapters.local.operations import OPERATIONS
from agent.adapters.local.shapes import Shapes
from agent.adapters.local.vpc.errors import KernelRefused
from agent.adapters.local.vpc.plan import InterfacePlan, VpcPlan, default_plan
from agent.model.desired import WantedTask
from agent.model.ids import ContainerId
from agent.model.report import AttachmentReport, ContainerReport, TaskReport
from agent.model.status import TaskStatus
from agent.ports.clock import Clock

REGION = "us-east-1"
PLAN = default_plan(REGION, seed="tests")
SUBNET, OTHER_SUBNET = (subnet.subnet_id for subnet in PLAN.subnets)

NGINX = {
    "family": "nginx-awsvpc",
    "networkMode": "awsvpc",
    "containerDefinitions": [
        {
            "name": "nginx",
            "image": "nginx:latest",
            "cpu": 100,
            "memory": 512,
            "essential": True,
            "portMappings": [{"containerPort": 80, "protocol": "tcp"}],
        }
    ],
}


def in_subnet(*subnets: str) -> dict:
    return {"awsvpcConfiguration": {"subnets": list(subnets or (SUBNET,)), "securityGroups": ["sg-1"]}}


class MemoryVpc:
    """What the backend needs of a VPC. ``refusals``: how many of the next calls fail."""

    def __init__(self) -> None:
        self.made: dict[str, InterfacePlan] = {}
        self.instance: InterfacePlan | None = None
        self.is_ensured = False
        self.refusals = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[str] = []

    async def ensure(self) -> None:
        self._maybe_refuse("ensure")
        self.is_ensured = True

    async def ensure_interface(self, eni: InterfacePlan) -> None:
        await self.gate.wait()
        self._maybe_refuse(f"make {eni.eni_id}")
        self.made[eni.eni_id] = eni

    async def remove_interface(self, eni_id: str) -> None:
        await self.gate.wait()
        self._maybe_refuse(f"remove {eni_id}")
        self.made.pop(eni_id, None)

    async def interfaces(self) -> frozenset[str]:
        return frozenset(self.made)

    async def ensure_instance_interface(self, eni: InterfacePlan) -> None:
        self._maybe_refuse("instance")
        self.instance = eni

    def _maybe_refuse(self, call: str) -> None:
        self.calls.append(call)
        if self.refusals:
            self.refusals -= 1
            raise KernelRefused("the kernel said no", 1)


@functools.cache
def answer_shapes() -> Shapes:
    return Shapes(tuple(OPERATIONS), with_answers=True)


class CheckedBackend(LocalBackend):
    """Every answer must have the shape that botocore's model describes."""

    async def perform(self, operation, wanted):
        answer = await super().perform(operation, wanted)
        assert answer_shapes().answer_problems(operation, answer) == ""
        return answer


@functools.cache
def _session() -> botocore.session.Session:
    return botocore.session.Session()


@dataclass
class Stage:
    """``ecs`` calls boto3 in a thread: ``await stage.ecs("run_task", taskDefinition=...)``."""

    backend: LocalBackend
    vpc: MemoryVpc
    clock: Clock
    port: int
    agent: asyncio.Task = field(repr=False)

    @functools.cached_property
    def client(self):
        keys = self.backend.keys
        return _session().create_client(
            "ecs",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ecs(self, operation: str, **wanted):
        answer = await asyncio.to_thread(getattr(self.client, operation), **wanted)
        answer.pop("ResponseMetadata", None)
        return answer

    async def register(self, definition: dict | None = None, **changes) -> str:
        answer = await self.ecs("register_task_definition", **{**(definition or NGINX), **changes})
        return answer["taskDefinition"]["taskDefinitionArn"]

    async def run(self, definition: str = "nginx-awsvpc", **wanted) -> dict:
        return await self.ecs(
            "run_task", taskDefinition=definition, networkConfiguration=in_subnet(), **wanted
        )

    async def run_one(self, definition: str = "nginx-awsvpc", **wanted) -> dict:
        answer = await self.run(definition, **wanted)
        assert answer["failures"] == []
        return answer["tasks"][0]

    async def describe(self, arn: str) -> dict:
        return (await self.ecs("describe_tasks", tasks=[arn], include=["TAGS"]))["tasks"][0]

    async def eventually(self, arn: str, status: str) -> dict:
        async with asyncio.timeout(5):
            while (task := await self.describe(arn))["lastStatus"] != status:
                await asyncio.sleep(0.01)
        return task

    async def wanted(self, arn: str) -> WantedTask:
        """The task as the agent gets it."""
        async with asyncio.timeout(5), contextlib.aclosing(self.backend.desired()) as snapshots:
            async for snapshot in snapshots:
                for task in snapshot.tasks:
                    if task.arn == arn:
                        return task
        raise AssertionError(f"{arn} never came")

    async def report(self, arn: str, status: TaskStatus, **changes) -> None:
        await self.backend.report(report(await self.wanted(arn), status, **changes))


def report(wanted: WantedTask, status: TaskStatus, *, exit_code: int | None = None, **changes) -> TaskReport:
    """What an agent says of a task whose containers are all in that state."""
    told = TaskReport(
        task_arn=wanted.arn,
        status=status,
        containers=tuple(
            ContainerReport(
                name=one.name, status=status, runtime_id=ContainerId(f"{one.name}-id"), exit_code=exit_code
            )
            for one in wanted.spec.containers
        ),
        attachments=(AttachmentReport(wanted.spec.network.attachment_arn),),
    )
    return replace(told, **changes)


async def _listen(backend: LocalBackend) -> None:
    """The agent is there: without a listener nothing is placed."""
    async with contextlib.aclosing(backend.desired()) as snapshots:
        async for _ in snapshots:
            pass


@contextlib.asynccontextmanager
async def running(
    data_dir: Path,
    clock: Clock,
    *,
    vpc: MemoryVpc | None = None,
    plan: VpcPlan = PLAN,
    loads_shapes=False,
    **changes,
) -> AsyncIterator[Stage]:
    vpc = vpc or MemoryVpc()
    options = LocalOptions(
        **{"data_dir": data_dir, "cpu": 2048, "memory": 4096, "agent_version": "0.0.1", **changes}
    )
    backend = CheckedBackend(options, plan, vpc, clock)
    await backend.start()
    if not loads_shapes:
        backend._api._shapes = answer_shapes()  # read once for all tests: 50 ms each
    runner = web.AppRunner(backend.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    work = loop.create_task(backend.run())
    agent = loop.create_task(_listen(backend))
    stage = Stage(backend, vpc, clock, port, agent)
    try:
        yield stage
    finally:
        for task in (agent, work):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if "client" in vars(stage):
            stage.client.close()
        await runner.cleanup()
        await backend.aclose()
