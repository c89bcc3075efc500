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
from agent.adapters.ecs.records import InstanceRecord, TaskRecord
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
from agent.model.errors import CheckpointFailed
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
        self._unusable: set[TaskArn] = set()
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
            if record.refusal:
                continue
            spec = self._spec(record)
            if spec is None:
                # Perhaps it runs, by its own records; the supervisor is told nothing about it.
                is_complete = False
                continue
            tasks.append(WantedTask(spec, STOPPED_BY_CLUSTER if record.stop else None))
        left = {record.arn for record in records}
        self._unusable &= left
        for gone in self._specs.keys() - left:
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
                is_whole = await self._refused(problem) and is_whole
        await self._raise_sequence(message.seq_num)
        return Taken(is_whole, tuple(delivered))

    def take_credentials(self, message: IAMRoleCredentialsMessage) -> bool:
        """Whether the credentials belong to a task of this machine; then they are kept."""
        arn = TaskArn(message.task_arn)
        record = self._store.task(arn)
        if record is None or record.is_over or record.refusal:
            log.warning("credentials.unwanted", task_arn=arn, role_type=message.role_type)
            return False
        self._put(record, message.role_type, message.credentials)
        return True

    async def take_manifest(self, message: TaskManifestMessage) -> tuple[TaskArn, ...] | None:
        """The tasks that run here although the cluster does not know it. None: the manifest is an old one.

        Raise ``CheckpointFailed``.
        """
        known = self._store.manifest_sequence
        if message.timeline <= known:
            if message.timeline == known:
                # The same list as before a restart: nothing is new, and nothing was missed.
                self._note_manifest()
            return None
        await self._raise_sequence(message.timeline)
        self._manifest = message.message_id
        self._note_manifest()
        running = {each.task_arn for each in message.tasks if each.desired_status == TaskStatus.RUNNING}
        return tuple(
            record.arn
            for record in self._store.tasks()
            if not record.stop and not record.refusal and record.arn not in running
        )

    async def take_verification(self, message: TaskStopVerificationAck) -> None:
        """Stop the tasks that the cluster has confirmed; once, and for the latest manifest only.

        Raise ``CheckpointFailed``.
        """
        if message.message_id != self._manifest:
            log.warning("manifest.unverified", message_id=message.message_id)
            return
        for each in message.stop_tasks:
            record = self._store.task(TaskArn(each.task_arn))
            if record is not None and not record.stop:
                log.info("task.disowned", task_id=task_id(record.arn))
                await self._stop(record.arn)
        self._manifest = None

    def _note_manifest(self) -> None:
        if not self._has_manifest:
            self._has_manifest = True
            self._tasks_changed.notify()

    async def _raise_sequence(self, sequence: int) -> None:
        def raised(known: InstanceRecord | None) -> InstanceRecord | None:
            if known is None or sequence <= known.manifest_sequence:
                return None
            return replace(known, manifest_sequence=sequence)

        await self._store.update_instance(raised)

    # -- tasks ---------------------------------------------------------------------------------

    async def _take_task(self, raw: dict[str, Any]) -> list[RoleCredentials]:
        arn = task_arn(raw)
        record = self._store.task(TaskArn(arn)) if arn is not None else None
        if record is not None:
            return await self._take_again(record, raw)
        read = read_task(raw, self._place(self._attachments.expires_at))
        taken = TaskRecord(
            arn=read.spec.arn,
            payload=without_secrets(raw),
            expires_at=read.spec.network.expires_at,
            stop=read.stop,
        )
        self._specs[read.spec.arn] = read.spec
        # before the task exists: it may ask for them as soon as it does
        delivered = self._deliver(taken, read)
        try:
            await self._store.update_task(read.spec.arn, lambda known: known or taken)
        except CheckpointFailed:
            await self._credentials.forget(read.spec.arn)  # they come again, with the task
            raise
        return delivered

    async def _take_again(self, record: TaskRecord, raw: dict[str, Any]) -> list[RoleCredentials]:
        """A task that is known: only its goal changes, and only downwards; credentials are taken."""
        if record.is_over or record.refusal:
            return []
        if desired_stop(raw) and not record.stop:
            await self._stop(record.arn)
        try:
            read = read_task(raw, self._place(lambda _: record.expires_at))
        except InvalidTask as problem:
            # It runs as it was first ordered; what is wrong with the repetition does not end it.
            log.warning("payload.unreadable", task_id=task_id(record.arn), problem=problem.detail)
            return []
        return self._deliver(record, read)

    async def _stop(self, arn: TaskArn) -> None:
        def stopping(known: TaskRecord | None) -> TaskRecord | None:
            if known is None or known.is_over:
                return None
            problem = self._problem(known)
            # One that this version cannot read can be neither run nor stopped; left out of what should be
            # here, it is stopped by the supervisor if it still runs.
            return replace(known, stop=True, refusal=problem.reason if problem is not None else "")

        record = await self._store.update_task(arn, stopping)
        if record is not None and record.refusal:
            self._outbox.refusal_kept(arn)

    async def _refused(self, problem: InvalidTask) -> bool:
        """Tell that the task cannot be begun. Whether it was taken all the same, as ECS takes it."""
        log.warning("task.refused", task_arn=problem.arn, problem=problem.detail)
        if problem.arn is None:
            return False
        arn = TaskArn(problem.arn)
        if not problem.is_understood:
            # Not acknowledged, so that it is sent again.
            self._outbox.refuse(arn, problem.reason)
            return False
        refused = TaskRecord(arn, {}, self._attachments.patient_until(), stop=True, refusal=problem.reason)
        await self._store.update_task(arn, lambda known: known or refused)
        self._outbox.refusal_kept(arn)
        return True

    def _deliver(self, record: TaskRecord, read: ReadTask) -> list[RoleCredentials]:
        delivered = []
        for role_type, credentials in (
            (RoleType.TASK_APPLICATION, read.task_credentials),
            (RoleType.TASK_EXECUTION, read.execution_credentials),
        ):
            if credentials is not None:
                self._put(record, role_type, credentials)
                delivered.append(credentials)
        return delivered

    def _put(self, record: TaskRecord, role_type: RoleType, credentials: RoleCredentials) -> None:
        self._credentials.put(record.arn, credentials, known_as=_known_id(self._spec(record), role_type))

    def _spec(self, record: TaskRecord) -> TaskSpec | None:
        if record.arn not in self._specs and record.arn not in self._unusable:
            problem = self._problem(record)
            if problem is not None:
                self._unusable.add(record.arn)
                log.error("task.unusable", task_id=task_id(record.arn), problem=problem.detail)
        return self._specs.get(record.arn)

    def _problem(self, record: TaskRecord) -> InvalidTask | None:
        """Why the task on record cannot be read; None: it can, and its spec is at hand."""
        if record.arn not in self._specs:
            try:
                read = read_task(record.payload, self._place(lambda _: record.expires_at))
            except InvalidTask as problem:
                return problem
            self._specs[record.arn] = read.spec
        return None

    def _place(self, expires_at: Callable[[MacAddress], datetime]) -> TaskPlace:
        return TaskPlace(cluster=self._cluster, pull_behavior=self._pull_behavior, expires_at=expires_at)


def _known_id(spec: TaskSpec | None, role_type: RoleType) -> str | None:
    """The id under which the task's containers ask for the role."""
    if spec is None:
        return None
    role = spec.task_role if role_type is RoleType.TASK_APPLICATION else spec.execution_role
    return None if role is None else role.credentials_id
