"""The embedded control plane as the agent's backend: orders from the local API, reports into the store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import structlog
from aiohttp import web

from agent.adapters.local.api import Api
from agent.adapters.local.database import DatabaseFailed
from agent.adapters.local.definitions.overrides import applied
from agent.adapters.local.definitions.registration import PRIVATE_REGISTRIES
from agent.adapters.local.definitions.taskspec import Place, task_spec
from agent.adapters.local.identity import Identity, new_task_id
from agent.adapters.local.interfaces import ElasticNetwork, InterfaceKeeper
from agent.adapters.local.keys import KeyPair, KeysUnusable, load_or_make
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.node import CAPABILITIES, Node, Resources, Versions, misfit
from agent.adapters.local.operations import OPERATIONS
from agent.adapters.local.operations.desk import Desk
from agent.adapters.local.progress import STOPPED_BY_USER, reported
from agent.adapters.local.records import AttachmentRecord, Document, InstanceRecord, TaskEvent, TaskRecord
from agent.adapters.local.signatures import Verifier
from agent.adapters.local.store import Store
from agent.adapters.local.vpc.errors import KernelRefused, VpcError
from agent.adapters.local.vpc.plan import VpcPlan
from agent.model.desired import DesiredTasks, WantedTask
from agent.model.errors import BackendUnavailable, CannotStart, ReportRejected
from agent.model.ids import task_id
from agent.model.progress import Progress
from agent.model.report import TaskReport
from agent.model.spec import Pairs, PullBehavior, TaskSpec
from agent.ports.clock import Clock

log = structlog.get_logger()

_POLL = 30.0  # seconds; changes made through this process are seen at once
_TIDY = 60.0


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What the local backend is told. Tasks may take ``cpu`` (1024 units per core) and ``memory`` (MiB).

    ``architecture``: ``X86_64`` or ``ARM64``. ``mtu`` None: the VPC's default. ``interface_wait``: how long a
    task's interface may take to appear. ``attributes``: of the operator's own, on the container instance.
    ``has_role_credentials``: whether roles have credentials that AWS knows, so that secrets can be read.
    """

    data_dir: Path
    cpu: int
    memory: int
    agent_version: str
    cluster: str = "default"
    region: str = "us-east-1"
    account: str = "000000000000"
    interfaces: int = 120
    architecture: str = "X86_64"
    pull_behavior: PullBehavior = PullBehavior.DEFAULT
    mtu: int | None = None
    interface_wait: timedelta = timedelta(minutes=5)
    has_instance_interface: bool = True
    attributes: Pairs = ()
    has_role_credentials: bool = False
    agent_hash: str = ""
    docker_version: str = ""


class LocalBackend:
    """Implements ``TaskStateBackend``: ``start``, serve ``application()``, keep up ``run()``, ``aclose``."""

    def __init__(
        self,
        options: LocalOptions,
        plan: VpcPlan,
        vpc: ElasticNetwork,
        clock: Clock,
        progress: Progress | None = None,
    ) -> None:
        identity = Identity(options.region, options.account, options.cluster)
        self.node = Node(
            place=Place(identity, plan, options.pull_behavior, options.mtu, options.interface_wait),
            resources=Resources(options.cpu, options.memory, options.interfaces),
            versions=Versions(options.agent_version, options.agent_hash, options.docker_version),
            architecture=options.architecture,
            capabilities=(*CAPABILITIES, *((PRIVATE_REGISTRIES,) if options.has_role_credentials else ())),
            own_attributes=options.attributes,
        )
        self._options = options
        self._vpc = vpc
        self._clock = clock
        self._store = Store(options.data_dir, clock, self._wake)
        self._progress = progress or Progress()
        self._keeper = InterfaceKeeper(self._store, vpc, options.mtu, self._progress)
        self._api: Api | None = None
        self._keys: KeyPair | None = None
        self._instance: InstanceRecord | None = None
        self._changed = asyncio.Event()
        self._sequence = 0
        self._latest: tuple[WantedTask, ...] | None = None
        self._specs: dict[str, TaskSpec] = {}
        self._listeners = 0
        self._has_listened = False

    @property
    def keys(self) -> KeyPair:
        """The key pair that signs requests. Raise ``RuntimeError`` before ``start``."""
        if self._keys is None:
            raise RuntimeError("the local backend was not started")
        return self._keys

    @property
    def container_instance_arn(self) -> str:
        """This machine's ARN. Raise ``RuntimeError`` before ``start``."""
        if self._instance is None:
            raise RuntimeError("the local backend was not started")
        return self.node.identity.instance_arn(self._instance.cluster, self._instance.id)

    async def start(self) -> None:
        """Open the store, register this machine, make the VPC, and clear away interfaces of no task.

        Raise ``CannotStart``.
        """
        try:
            await self._prepare()
        except CannotStart:
            await self.aclose()
            raise
        except (DatabaseFailed, KeysUnusable, KernelRefused) as problem:
            await self.aclose()
            raise CannotStart(f"local backend: {problem}", is_final=False) from problem
        except VpcError as problem:
            await self.aclose()
            raise CannotStart(f"local backend: {problem}", is_final=True) from problem

    async def run(self) -> None:
        """Keep the tasks' network interfaces and tidy the store, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keeper.run())
            group.create_task(self._tidy())

    async def aclose(self) -> None:
        """Close the store. Tasks, interfaces and the VPC stay as they are."""
        await self._store.aclose()

    def application(self) -> web.Application:
        """The ECS JSON API. Raise ``RuntimeError`` before ``start``."""
        if self._api is None:
            raise RuntimeError("the local backend was not started")
        return self._api.application()

    async def perform(self, operation: str, wanted: Document) -> Document:
        """Carry out a checked request in one transaction. Raise ``ApiError`` or ``DatabaseFailed``."""
        work = OPERATIONS[operation]

        def at_desk(ledger: Ledger) -> Document:
            return work(
                Desk(
                    ledger,
                    self.node,
                    is_connected=self._listeners > 0,
                    is_starting=not self._has_listened,
                ),
                wanted,
            )

        return await self._store.transact(at_desk)

    async def events(self, task: str) -> tuple[TaskEvent, ...]:
        """The history of a task by its short id, oldest first. Raise ``DatabaseFailed``."""
        return await self._store.transact(lambda ledger: ledger.events(task))

    async def desired(self) -> AsyncIterator[DesiredTasks]:
        """Yield the newest snapshot, then every change. Never ends."""
        seen: tuple[WantedTask, ...] | None = None
        self._listeners += 1
        self._has_listened = True
        try:
            with self._progress.watched("orders of the local backend") as loop:
                while True:
                    changed = self._changed
                    loop.beat(_POLL)
                    try:
                        tasks, is_complete = await self._wanted()
                    except DatabaseFailed as failure:
                        log.warning("backend.lost", problem=str(failure))
                        await asyncio.sleep(1.0)
                        continue
                    if tasks != seen:
                        seen = tasks
                        yield DesiredTasks(self._sequence, complete=is_complete, tasks=tasks)
                    await _either(changed, _POLL)
        finally:
            self._listeners -= 1

    async def report(self, report: TaskReport) -> bool:
        """Write what the agent says. Raise ``BackendUnavailable`` or ``ReportRejected``."""
        try:
            is_known = await self._store.transact(lambda ledger: self._accept(ledger, report))
        except DatabaseFailed as failure:
            raise BackendUnavailable(str(failure)) from failure
        if not is_known:
            raise ReportRejected(f"{report.task_arn}: this backend never assigned such a task")
        return True

    async def orphans(self) -> tuple[str, ...]:
        """The ids of the VPC's interfaces that belong to no task. Raise ``BackendUnavailable``."""
        try:
            return await self._keeper.orphans()
        except (VpcError, DatabaseFailed) as failure:
            raise BackendUnavailable(f"cannot list interfaces: {failure}") from failure

    # -- on the database's thread ----------------------------------------------------------------

    def _accept(self, ledger: Ledger, report: TaskReport) -> bool:
        task = ledger.task(None, task_id(report.task_arn))
        if task is None or self.node.identity.task_arn(task.cluster, task.id) != report.task_arn:
            return False
        definition = ledger.definition(task.family, task.revision)
        if definition is None:
            return False
        after = reported(task, applied(definition.document, task.overrides), report, ledger.now)
        if after != task:
            ledger.save_task(after)
        if after.last_status != task.last_status:
            ledger.note(task.id, f"status.{after.last_status.lower()}", after.stopped_reason or "")
        attachment = ledger.attachment_of(task.id)
        if attachment is not None and attachment.status in {"PRECREATED", "ATTACHING"}:
            seen = {one.attachment_arn for one in report.attachments}
            if self.node.identity.attachment_arn(attachment.id) in seen:
                ledger.save_attachment(replace(attachment, status="ATTACHED"))
        return True

    def _read_wanted(self, ledger: Ledger) -> tuple[tuple[WantedTask, ...], bool]:
        """The tasks, and whether these are all: damaged records must not end the task they are about."""
        wanted = ledger.wanted()
        for gone in self._specs.keys() - {task for task, _ in wanted}:
            del self._specs[gone]
        tasks: list[WantedTask] = []
        for task, stop in wanted:
            if task not in self._specs:
                spec = self._read_spec(ledger, task)
                if spec is None:
                    continue
                self._specs[task] = spec
            tasks.append(WantedTask(self._specs[task], None if stop is None else stop or STOPPED_BY_USER))
        return tuple(tasks), len(tasks) == len(wanted)

    def _read_spec(self, ledger: Ledger, task_id: str) -> TaskSpec | None:
        task, attachment = ledger.task(None, task_id), ledger.attachment_of(task_id)
        definition = ledger.definition(task.family, task.revision) if task is not None else None
        if task is None or definition is None or attachment is None:
            log.error(
                "task.unusable", task_id=task_id, problem="its definition or interface is not in the store"
            )
            return None
        return task_spec(task, definition, attachment, self.node.place)

    # -- on the loop -----------------------------------------------------------------------------

    async def _prepare(self) -> None:
        options = self._options
        self._keys = await asyncio.to_thread(load_or_make, options.data_dir)
        self._api = Api(Verifier(self._keys, options.region), self._clock, self.perform)
        await self._store.open(options.cluster)
        problem = await self._store.transact(lambda ledger: misfit(self.node.vpc, _placed(ledger)))
        if problem is not None:
            raise CannotStart(f"local backend: {problem}", is_final=True)
        self._instance = await self._store.transact(lambda ledger: _register(ledger, options.cluster))
        await self._vpc.ensure()
        if self._options.has_instance_interface:
            await self._vpc.ensure_instance_interface(self.node.interface)
        await self._keeper.remove_orphans()

    async def _wanted(self) -> tuple[tuple[WantedTask, ...], bool]:
        tasks, is_complete = await self._store.transact(self._read_wanted)
        if tasks != self._latest:
            self._latest = tasks
            self._sequence += 1
        return tasks, is_complete

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._keeper.look()

    async def _tidy(self) -> None:
        with self._progress.watched("tidying of the store") as loop:
            while True:
                loop.beat(2 * _TIDY)
                try:
                    await self._store.tidy()
                except DatabaseFailed as failure:
                    log.warning("store.untidied", problem=str(failure))
                await asyncio.sleep(_TIDY)


def _placed(ledger: Ledger) -> list[tuple[TaskRecord, AttachmentRecord]]:
    """Every task that the agent has not ended yet, with its interface."""
    tasks = [task for task in ledger.live_tasks() if not task.is_done]
    pairs = [(task, ledger.attachment_of(task.id)) for task in tasks]
    return [(task, attachment) for task, attachment in pairs if attachment is not None]


def _register(ledger: Ledger, cluster: str) -> InstanceRecord:
    """This machine is a container instance of the cluster; made once, kept until it joins another."""
    ledger.forget_instances_but(cluster)
    known = ledger.instance(cluster)
    if known is not None:
        return known
    made = InstanceRecord(new_task_id(), cluster, registered_at=ledger.now)
    ledger.save_instance(made)
    return made


async def _either(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
