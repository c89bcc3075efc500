"""A read-only view of the tasks, for the endpoints."""

from typing import Protocol

from agent.model.ids import TaskArn
from agent.model.state import TaskState


class TaskDirectory(Protocol):
    """Answers from the model; never waits."""

    def tasks(self) -> tuple[TaskState, ...]:
        """Every task that the agent knows, in the order of acceptance."""

    def by_arn(self, arn: TaskArn) -> TaskState | None:
        """The task of that ARN."""

    def by_address(self, local_ipv4: str) -> TaskState | None:
        """The task whose address on the link to the agent this is, while it is attached."""

    def by_credentials_id(self, credentials_id: str) -> TaskState | None:
        """The task with a role that has this credentials id."""
