"""What the control plane stand-in believes: clusters, the instance, tasks and what was reported of them."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.fakes.ecs.records import Journal
from tests.fakes.ecs.tasks import Eni, Json, Names, RoleCredentials, TaskPlan, task_document

_RANK = {"": 0, "PENDING": 1, "RUNNING": 2, "STOPPED": 3}

TASK_ROLE = "TaskApplication"
EXECUTION_ROLE = "TaskExecution"


@dataclass(slots=True)
class ApiError(Exception):
    """An error that the service answers."""

    code: str
    message: str
    status: int = 400


@dataclass(slots=True)
class InstanceRecord:
    """A container instance. ``registrations`` counts successful ones, the first included."""

    arn: str
    status: str = "ACTIVE"
    attributes: list[Json] = field(default_factory=list)
    resources: list[Json] = field(default_factory=list)
    tags: list[Json] = field(default_factory=list)
    client_token: str = ""
    identity_document: str = ""
    registrations: int = 0


@dataclass(slots=True)
class AttachmentRecord:
    """An interface's way to the instance. ``deadline``: monotonic time until which it may be reported."""

    arn: str
    task_arn: str | None
    mac: str
    deadline: float
    status: str = "ATTACHING"
    is_accepted: bool = False


@dataclass(slots=True)
class ContainerRecord:
    """What was reported last of a container."""

    name: str
    status: str = ""
    exit_code: int | None = None
    reason: str | None = None
    runtime_id: str | None = None
    image_digest: str | None = None


@dataclass(slots=True)
class TaskRecord:
    """A task: what is wanted, and what was reported. ``history``: (monotonic time, request) of each report.

    ``status`` and the containers' are empty until something was reported.
    """

    arn: str
    plan: TaskPlan | None = None
    enis: tuple[Eni, ...] = ()
    document: Json | None = None
    desired_status: str = "RUNNING"
    status: str = ""
    reason: str = ""
    containers: dict[str, ContainerRecord] = field(default_factory=dict)
    history: list[tuple[float, Json]] = field(default_factory=list)
    credentials: dict[str, RoleCredentials] = field(default_factory=dict)

    @property
    def reports(self) -> list[Json]:
        """The reports that tell a status, in order."""
        return [body for _, body in self.history if "status" in body]

    @property
    def is_over(self) -> bool:
        """Whether it was reported STOPPED."""
        return self.status == "STOPPED"


class Truth:
    """The state, guarded by the journal's lock. Methods judge reports and note violations in the journal."""

    def __init__(self, names: Names, journal: Journal) -> None:
        self.names = names
        self.journal = journal
        self.clusters: set[str] = {names.cluster}
        self.instances: dict[str, InstanceRecord] = {}
        self.tasks: dict[str, TaskRecord] = {}
        self.attachments: dict[str, AttachmentRecord] = {}
        self.tags: dict[str, list[Json]] = {}
        self.forgotten: set[str] = set()
        self.sequence = 0

    @property
    def instance(self) -> InstanceRecord | None:
        """The instance that registered last."""
        return list(self.instances.values())[-1] if self.instances else None

    def next_sequence(self) -> int:
        """Payloads and manifests share one row of numbers, as in the recorded session."""
        self.sequence += 1
        return self.sequence

    def is_this_cluster(self, text: str) -> bool:
        """Whether that name or ARN is a cluster which exists."""
        return text in self.clusters or text in {self.names.arn(f"cluster/{name}") for name in self.clusters}

    def require_cluster(self, text: str) -> None:
        """Raise the service's error for a cluster that does not exist."""
        if not self.is_this_cluster(text):
            raise ApiError("ClusterNotFoundException", "Cluster not found.")

    def require_instance(self, arn: str) -> InstanceRecord:
        """Raise the service's error for an instance that does not exist."""
        found = self.instances.get(arn)
        if found is None:
            raise ApiError("InvalidParameterException", f"The container instance {arn} is not valid.")
        return found

    def register(self, body: Json) -> InstanceRecord:
        """A first registration, the same once more (by its token), or one under a known ARN."""
        self.require_cluster(body["cluster"])
        arn, token = body.get("containerInstanceArn"), body.get("clientToken", "")
        if arn is None:
            # A repeated token is the same request that was sent again.
            same = [each for each in self.instances.values() if token and each.client_token == token]
            record = same[0] if same else InstanceRecord(self.names.new_instance_arn())
            self.instances[record.arn] = record
        else:
            record = self.require_instance(arn)
            record.status = "ACTIVE"
            own = [each["name"] for each in body["attributes"] if _is_custom(each["name"])]
            if own:
                self.journal.violation(
                    f"RegisterContainerInstance: custom attributes {own} on re-registration"
                )
        record.registrations += 1
        record.client_token = token
        record.attributes, record.resources = list(body["attributes"]), list(body["totalResources"])
        record.tags = list(body.get("tags", []))
        record.identity_document = body.get("instanceIdentityDocument", "")
        return record

    def new_task(self, arn: str | None = None, plan: TaskPlan | None = None) -> TaskRecord:
        """The record of a task, made if there is none."""
        arn = arn or self.names.new_task_arn()
        record = self.tasks.setdefault(arn, TaskRecord(arn))
        if plan is not None:
            record.plan = plan
        return record

    def payload_of(self, record: TaskRecord, desired_status: str) -> Json:
        """The task for a payload. Credentials come only with a task that should run."""
        if record.plan is None:
            raise ValueError(
                f"task {record.arn}: no plan was given, expected run_task() or send_payload() first"
            )
        runs = desired_status == "RUNNING"
        record.document = task_document(
            record.plan,
            self.names,
            record.arn,
            desired_status=desired_status,
            enis=record.enis,
            credentials=record.credentials.get(TASK_ROLE) if runs else None,
            execution_credentials=record.credentials.get(EXECUTION_ROLE) if runs else None,
        )
        return record.document

    def manifest(self) -> list[Json]:
        """Every task of the instance that is not over."""
        return [
            {
                "taskArn": task.arn,
                "taskClusterArn": self.names.cluster_arn,
                "desiredStatus": task.desired_status,
            }
            for task in self.tasks.values()
            if task.document is not None and not task.is_over
        ]

    def submit(self, body: Json) -> None:
        """Take a report of a task. Raise the service's error when there is no such task."""
        task = self.tasks.get(body["task"])
        if task is None:
            if body["task"] not in self.forgotten:
                self.journal.violation(f"SubmitTaskStateChange: task {body['task']} was never sent")
            raise ApiError("InvalidParameterException", "Unable to find the task.")
        self._judge(task, body)
        for each in body.get("attachments", ()):
            self.attach(each, task.arn)
        task.history.append((time.monotonic(), body))
        if _RANK[body.get("status", "")] >= _RANK[task.status]:
            task.status = body.get("status", task.status)
            task.reason = body.get("reason", task.reason)
        for each in body.get("containers", ()):
            self._container(task, each)

    def attach(self, reported: Mapping[str, str], task_arn: str | None) -> None:
        """Take the report of an attachment."""
        record = self.attachments.get(reported["attachmentArn"])
        if record is None or record.task_arn != task_arn:
            self.journal.violation(
                f"attachment {reported['attachmentArn']} of {task_arn} was never announced"
            )
            return
        if record.is_accepted:
            self.journal.violation(
                f"attachment {record.arn}: reported again although the report was accepted"
            )
        if time.monotonic() > record.deadline:
            self.journal.violation(f"attachment {record.arn}: reported after its time was over")
            return
        record.status = reported["status"]

    def accepted(self, body: Json) -> None:
        """The answer to that report has gone out, so it must not come again."""
        for each in body.get("attachments", ()):
            if each["attachmentArn"] in self.attachments:
                self.attachments[each["attachmentArn"]].is_accepted = True

    def to_stop(self, candidates: list[Json]) -> list[Json]:
        """Of those the agent asks about, the ones that should really stop."""
        return [
            candidate
            for candidate in candidates
            if (task := self.tasks.get(candidate["taskArn"])) is None or task.desired_status != "RUNNING"
        ]

    def _judge(self, task: TaskRecord, body: Json) -> None:
        where, note = f"SubmitTaskStateChange {task.arn}", self.journal.violation
        if "status" not in body:
            if set(body) != {"cluster", "task", "attachments"}:
                note(
                    f"{where}: without a status, expected only cluster, task and attachments; got {sorted(body)}"
                )
            return
        if "attachments" in body:
            note(f"{where}: a status and attachments in one report")
        if _RANK[body["status"]] < _RANK[task.status]:
            note(f"{where}: {body['status']} after {task.status}")
        if task.document is None:
            note(f"{where}: {body['status']} before its payload was sent")
            return
        # What the test wrote itself may lack anything.
        known = {each.get("name") for each in task.document.get("containers") or ()}
        for each in body.get("containers", ()):
            if each["containerName"] not in known:
                note(f"{where}: container {each['containerName']!r} is not one of {sorted(map(str, known))}")
            if each.get("networkBindings") and task.document.get("networkMode") == "awsvpc":
                note(f"{where}: network bindings of an awsvpc task")

    def _container(self, task: TaskRecord, reported: Json) -> None:
        record = task.containers.setdefault(
            reported["containerName"], ContainerRecord(reported["containerName"])
        )
        if _RANK[reported["status"]] < _RANK[record.status]:
            self.journal.violation(
                f"SubmitTaskStateChange {task.arn}: container {record.name} {reported['status']} "
                f"after {record.status}"
            )
            return
        record.status = reported["status"]
        record.exit_code = reported.get("exitCode", record.exit_code)
        record.reason = reported.get("reason", record.reason)
        record.runtime_id = reported.get("runtimeId", record.runtime_id)
        record.image_digest = reported.get("imageDigest", record.image_digest)


def message_id() -> str:
    """As the service makes them."""
    return str(uuid.uuid4())


def _is_custom(name: str) -> bool:
    return not name.startswith(("ecs.", "com.amazonaws.ecs."))
