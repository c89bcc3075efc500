"""A directory of tasks that a test fills by hand."""

from agent.model.ids import TaskArn
from agent.model.state import TaskState
from agent.model.status import SandboxStatus


class FakeDirectory:
    """``TaskDirectory`` for tests. Keeps the order in which tasks were put."""

    def __init__(self, *tasks: TaskState) -> None:
        self._tasks: dict[TaskArn, TaskState] = {task.arn: task for task in tasks}

    def put(self, task: TaskState) -> None:
        """Add the task, or replace what was known of it."""
        self._tasks[task.arn] = task

    def drop(self, arn: TaskArn) -> None:
        """Forget a task; fine if there is none."""
        self._tasks.pop(arn, None)

    def tasks(self) -> tuple[TaskState, ...]:
        """Every task, in the order in which they were put."""
        return tuple(self._tasks.values())

    def by_arn(self, arn: TaskArn) -> TaskState | None:
        """The task of that ARN."""
        return self._tasks.get(arn)

    def by_address(self, local_ipv4: str) -> TaskState | None:
        """The task that is attached under this address."""
        for task in self._tasks.values():
            attachment = task.sandbox.attachment
            is_attached = task.sandbox.status < SandboxStatus.DISCONNECTED
            if attachment is not None and is_attached and attachment.local_ipv4 == local_ipv4:
                return task
        return None

    def by_credentials_id(self, credentials_id: str) -> TaskState | None:
        """The task with a role of this credentials id."""
        for task in self._tasks.values():
            roles = (task.spec.task_role, task.spec.execution_role)
            if any(role is not None and role.credentials_id == credentials_id for role in roles):
                return task
        return None
