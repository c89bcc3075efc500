"""What the messages of the control channel mean for the tasks of this machine (ecs-protocol 2.4)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from agent.adapters.ecs.attachments import Attachments
from agent.adapters.ecs.change import Change
from agent.adapters.ecs.credentials import DeliveredCredentials
from agent.adapters.ecs.outbox import Outbox
from agent.adapters.ecs.records import TaskRecord
from agent.adapters.ecs.store import Store
from agent.adapters.ecs.wire.messages import (
    IAMRoleCredentialsMessage,
    PayloadMessage,
    RoleCredentials,
    RoleType,
    TaskManifestMessage,
    TaskStopVerificationAck,
)
from agent.adapters.ecs.wire.tasks import (
    InvalidTask,
    ReadTask,
    TaskPlace,
    desired_stop,
    read_task,
    task_arn,
    without_secrets,
)
from agent.model.desired import DesiredTasks, WantedTask
from agent.model.ids import MacAddress, TaskArn, task_id
from agent.model.spec import PullBehavior, TaskSpec
from agent.model.status import TaskStatus

log = structlog.get_logger()

STOPPED_BY_CLUSTER = ""
"""Why the cluster stops tasks is its own affair: the agent adds no reason to it (ecs-protocol 4.9)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a payload. Only a whole one is acknowledged, with the credentials it brought."""

    is_whole: bool
    delivered: tuple[RoleCredentials, ...]


class Assignments:
    """Keeps the tasks that should be here. ``cluster`` and ``pull_behavior`` hold for all of them."""

    def __init__(
        self,
        store: Store,
        credentials: DeliveredCredentials,
        attachments: Attachments,
        outbox: Outbox,
        *,
        tasks_changed: Change,
        cluster: str,
        pull_behavior: PullBehavior,
    ) -> None:
        self._store = store
        self._tasks_changed = tasks_changed
        self._credentials = credentials
        self._attachments = attachments
        self._outbox = outbox
        self._cluster = cluster
        self._pull_behavior = pull_behavior
        self._specs: dict[TaskArn, TaskSpec] = {}
        self._manifest: str | None = None
        self._has_manifest = False
        self._sequence = 0

    def wanted(self) -> DesiredTasks:
        """The tasks that should be here.

        Complete once a manifest has come: until then the cluster may know of tasks that we have forgotten.
        """
        tasks: list[WantedTask] = []
        is_complete = self._has_manifest and self._store.is_whole
        records = self._store.tasks()
        for record in records:
            spec = self._spec(record)
            if spec is None:
                is_complete = False
                continue
            tasks.append(WantedTask(spec, STOPPED_BY_CLUSTER if record.stop else None))
        for gone in self._specs.keys() - {record.arn for record in records}:
            del self._specs[gone]
        self._sequence += 1
        return DesiredTasks(self._sequence, complete=is_complete, tasks=tuple(tasks))

    # -- messages ------------------------------------------------------------------------------

    async def take_payload(self, message: PayloadMessage) -> Taken:
        """Remember the tasks; tell of those that cannot be begun. Raise ``CheckpointFailed``."""
        is_whole = True
        delivered: list[RoleCredentials] = []
        # Orders to stop go first: they make room for the others.
        for raw in sorted(message.tasks, key=desired_stop, reverse=True):
            try:
                delivered += await self._take_task(raw)
            except InvalidTask as problem:
                # What is understood and cannot be run is over; what is not understood is sent again.
                is_whole = is_whole and problem.is_understood
                self._refuse(problem)
        await self._store.raise_manifest_sequence(message.seq_num)
        return Taken(is_whole, tuple(delivered))

    def take_credentials(self, message: IAMRoleCredentialsMessage) -> bool:
        """Whether the credentials belong to a task of this machine; then they are kept."""
        arn = TaskArn(message.task_arn)
        record = self._store.task(arn)
        if record is None or record.is_over:
            log.warning("credentials.unwanted", task_arn=arn, role_type=message.role_type)
            return False
        self._credentials.put(
            arn, message.credentials, also_as=_known_id(self._spec(record), message.role_type)
        )
        return True

    async def take_manifest(self, message: TaskManifestMessage) -> tuple[TaskArn, ...] | None:
        """The tasks that run here although the cluster does not know it. None: the manifest is an old one."""
        if message.timeline <= self._store.manifest_sequence:
            return None
        await self._store.raise_manifest_sequence(message.timeline)
        self._manifest = message.message_id
        if not self._has_manifest:
            self._has_manifest = True
            self._tasks_changed.notify()
        running = {each.task_arn for each in message.tasks if each.desired_status == TaskStatus.RUNNING}
        return tuple(
            record.arn
            for record in self._store.tasks()
            if not record.stop and record.arn not in running and record.told.status != TaskStatus.STOPPED
        )

    async def take_verification(self, message: TaskStopVerificationAck) -> None:
        """Stop the tasks that the cluster has confirmed; once, and for the latest manifest only."""
        if message.message_id != self._manifest:
            log.warning("manifest.unverified", message_id=message.message_id)
            return
        self._manifest = None
        for each in message.stop_tasks:
            record = self._store.task(TaskArn(each.task_arn))
            if record is not None and not record.stop:
                log.info("task.disowned", task_id=task_id(record.arn))
                await self._store.save_task(replace(record, stop=True))

    # -- tasks ---------------------------------------------------------------------------------

    async def _take_task(self, raw: dict[str, Any]) -> list[RoleCredentials]:
        arn = task_arn(raw)
        record = self._store.task(TaskArn(arn)) if arn is not None else None
        if record is not None:
            return await self._take_again(record, raw)
        read = read_task(raw, self._place(self._attachments.expires_at))
        # before the task exists: it may ask for them as soon as it does
        delivered = self._deliver(read)
        self._specs[read.spec.arn] = read.spec
        await self._store.save_task(
            TaskRecord(
                arn=read.spec.arn,
                payload=without_secrets(raw),
                expires_at=read.spec.network.expires_at,
                stop=read.stop,
            )
        )
        return delivered

    async def _take_again(self, record: TaskRecord, raw: dict[str, Any]) -> list[RoleCredentials]:
        """A task that is known: only its goal changes, and only downwards; credentials are taken."""
        if record.is_over:
            return []
        if desired_stop(raw) and not record.stop:
            await self._store.save_task(replace(record, stop=True))
        try:
            read = read_task(raw, self._place(lambda _: record.expires_at))
        except InvalidTask as problem:
            # It runs as it was first ordered; what is wrong with the repetition does not end it.
            log.warning("payload.unreadable", task_id=task_id(record.arn), problem=problem.detail)
            return []
        return self._deliver(read)

    def _deliver(self, read: ReadTask) -> list[RoleCredentials]:
        delivered = [each for each in (read.task_credentials, read.execution_credentials) if each is not None]
        for each in delivered:
            self._credentials.put(read.spec.arn, each)
        return delivered

    def _refuse(self, problem: InvalidTask) -> None:
        log.warning("task.refused", task_arn=problem.arn, problem=problem.detail)
        if problem.arn is not None:
            self._outbox.refuse(TaskArn(problem.arn), problem.reason)

    def _spec(self, record: TaskRecord) -> TaskSpec | None:
        spec = self._specs.get(record.arn)
        if spec is None:
            try:
                spec = read_task(record.payload, self._place(lambda _: record.expires_at)).spec
            except InvalidTask as problem:
                log.error("task.unusable", task_id=task_id(record.arn), problem=problem.detail)  # noqa: TRY400
                return None
            self._specs[record.arn] = spec
        return spec

    def _place(self, expires_at: Callable[[MacAddress], datetime]) -> TaskPlace:
        return TaskPlace(cluster=self._cluster, pull_behavior=self._pull_behavior, expires_at=expires_at)


def _known_id(spec: TaskSpec | None, role_type: RoleType) -> str | None:
    """The id under which the task's containers ask for the role."""
    if spec is None:
        return None
    role = spec.task_role if role_type is RoleType.TASK_APPLICATION else spec.execution_role
    return None if role is None else role.credentials_id
